"""Starts a worker as `/opt/apache/beam/boot` of Beam's images does.

The part of it that hands a worker its options: a pool that starts workers without it
(`worker_pool_main` alone) gives them none, so no S3 endpoint and no project. And the
part that becomes such a pool.
"""

import argparse
import os
import sys
from typing import NoReturn

import grpc
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from google.protobuf import json_format, text_format


def main() -> None:
    """Becomes the worker, or a pool of workers that this program starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--id")
    parser.add_argument("--worker_pool", action="store_true")
    for name in ("logging", "artifact", "provision", "control"):
        parser.add_argument(f"--{name}_endpoint", default="")
    args = parser.parse_args()
    if args.worker_pool:
        ends = ("--service_port=50000", f"--container_executable={sys.argv[0]}")
        _become("worker_pool_main", *ends)
    if not args.id:
        sys.exit("No id provided.")
    # Every call of a worker tells which one it is.
    with grpc.insecure_channel(args.provision_endpoint) as channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        metadata = [("worker_id", args.id)]
        info = stub.GetProvisionInfo(request, metadata=metadata).info
    os.environ["WORKER_ID"] = args.id
    os.environ["PIPELINE_OPTIONS"] = json_format.MessageToJson(info.pipeline_options)
    for name, url in (
        ("LOGGING_API_SERVICE_DESCRIPTOR", info.logging_endpoint.url),
        ("CONTROL_API_SERVICE_DESCRIPTOR", info.control_endpoint.url),
    ):
        url = url or getattr(args, f"{name.split('_')[0].lower()}_endpoint")
        descriptor = endpoints_pb2.ApiServiceDescriptor(url=url)
        os.environ[name] = text_format.MessageToString(descriptor)
    _become("sdk_worker_main")


def _become(module: str, *arguments: str) -> NoReturn:
    """Runs one of Beam's programs in this process's place."""
    program = f"apache_beam.runners.worker.{module}"
    os.execv(sys.executable, [sys.executable, "-m", program, *arguments])


if __name__ == "__main__":
    main()
