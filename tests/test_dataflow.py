"""`--runner DataflowRunner` against a service on loopback that runs what is staged."""

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.cli import main
from template.main import command_line
from tests import emulators, fake_dataflow, outputs, tables
from tests.fake_dataflow import GS, JOB_ID, L4, FakeDataflow
from transforms import storage

gcs, _gcs_port = emulators.gcs, emulators._gcs_port
google_credentials, service = emulators.google_credentials, fake_dataflow.service

IMAGE = "us-central1-docker.pkg.dev/my-project/bitbeam/bitbeam:0.1.0-py3.11-beam2.77.0"
ACCELERATOR = "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
      code: Its exit code.
      out: What it printed.
      err: And to standard error.
      service: Where it ran.
      table: The parts of its output.
      local: The parts of a local run on the same input.
      staged: The pipeline that the workers ran.
    """

    code: int
    out: str
    err: str
    service: FakeDataflow
    table: dict[str, bytes]
    local: dict[str, bytes]
    staged: beam_runner_api_pb2.Pipeline


def _in_two_steps(service: FakeDataflow) -> None:
    """The work; until it is done, the service tells of four images."""
    service.metrics = {"images_predicted": 3, "bad": 1, "bytes_read": 500}
    fake_dataflow.replay(service)


@pytest.fixture(scope="module")
def ended(
    small_source: Path,
    google_credentials: Path,
    _gcs_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ended]:
    """A run on the service, watched to its end, and a local one on the same input."""
    folder = tmp_path_factory.mktemp("local") / "out"
    service = FakeDataflow(_in_two_steps)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        emulators.use_gcs(_gcs_port, google_credentials, patch)
        fake_dataflow.hurry(patch)
        fake_dataflow.upload(small_source)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            fake_dataflow.serving(service) as port,
        ):
            endpoint = ("--dataflow_endpoint", f"http://localhost:{port}")
            code = main(fake_dataflow.command(*L4, *endpoint))
        local = ("run", "--input", f"{GS}/in/b.parquet", "--output", str(folder))
        assert main((*local, *tables.RUN)) == 0
        staged = beam_runner_api_pb2.Pipeline.FromString(service.staged_pipeline())
        yield Ended(
            *(code, out.getvalue(), err.getvalue(), service),
            *(fake_dataflow.table(), outputs.parts(folder), staged),
        )


def test_the_staged_pipeline_in_a_worker_writes_what_a_local_run_writes(
    ended: Ended,
) -> None:
    assert len(ended.local) == 3
    assert ended.table == ended.local


def test_the_last_line_and_the_exit_code_are_those_of_a_local_run(ended: Ended) -> None:
    assert ended.code == 0
    line, *bound = ended.out.splitlines()
    # Of work that takes two seconds.
    assert all("bound by " in each for each in bound) and len(bound) < 2
    assert line.startswith("bitbeam: done: 12 images in ")
    assert line.endswith(
        "; the table has 12: 10 good, 2 bad (1 not_an_image, 1 truncated_image);"
        f" 2 parts of 1 shards in {GS}/out"
    )


def test_progress_shows_what_the_service_tells(ended: Ended) -> None:
    lines = [line for line in ended.err.splitlines() if "bitbeam: 4 images, " in line]
    assert lines
    assert "images/s" in lines[0] and lines[0].endswith(", 1 bad")


def test_the_job_has_one_gpu_with_its_driver_a_worker(ended: Ended) -> None:
    assert ended.service.environment["serviceOptions"] == [ACCELERATOR]


def test_the_worker_pool_is_as_the_gpu_needs_it(ended: Ended) -> None:
    pool = ended.service.pool
    assert pool["machineType"] == "g2-standard-8"
    assert pool["numThreadsPerWorker"] == 8
    assert pool["diskSizeGb"] == 100
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 10
    assert pool["autoscalingSettings"]["algorithm"] in (
        *(2, "AUTOSCALING_ALGORITHM_BASIC"),
    )


def test_the_job_runs_in_the_image_of_these_versions(ended: Ended) -> None:
    pool = ended.service.pool
    [image] = pool["sdkHarnessContainerImages"]
    assert image["containerImage"] == f"{IMAGE}-gpu"
    assert pool["workerHarnessContainerImage"] == f"{IMAGE}-gpu"


def test_a_worker_has_one_process(ended: Ended) -> None:
    experiments = ended.service.environment["experiments"]
    assert "no_use_multiple_sdk_containers" in experiments
    assert "use_multiple_sdk_containers" not in experiments
    assert "shuffle_mode=service" in experiments


def test_no_code_is_staged(ended: Ended) -> None:
    options = ended.service.environment["sdkPipelineOptions"]["options"]
    assert options["sdk_location"] == "container"
    assert options["save_main_session"] is False
    assert [
        package["name"]
        for package in ended.service.pool.get("packages", [])
        if package["name"] != "submission_environment_dependencies.txt"
    ] == []


def test_the_options_are_shown_with_the_job(ended: Ended) -> None:
    shown = ended.service.environment["sdkPipelineOptions"]["display_data"]
    values = {item["key"]: item["value"] for item in shown}
    assert values["machine_type"] == "g2-standard-8"
    assert values["temp_location"].startswith(f"{GS}/tmp")


def test_the_steps_show_model_and_output(ended: Ended) -> None:
    shown = _display_data(ended.staged)
    assert shown["model"] == "random:R14x1:1000"
    assert shown["precision"] == "auto"
    assert shown["output"] == f"{GS}/out"


def _display_data(pipeline: beam_runner_api_pb2.Pipeline) -> dict[str, Any]:
    shown = {}
    for transform in pipeline.components.transforms.values():
        for item in transform.display_data:
            label = beam_runner_api_pb2.LabelledPayload.FromString(item.payload)
            shown[label.key] = getattr(label, label.WhichOneof("value"))
    return shown


def test_only_references_to_shards_are_shuffled(ended: Ended) -> None:
    names = {each.unique_name for each in ended.staged.components.transforms.values()}
    assert {name for name in names if name.endswith("Reshuffle")} <= {
        "SpreadShards",
        "SpreadDone",
    }


def test_what_is_filled_in_is_told_with_the_reason(ended: Ended) -> None:
    told = [line.split("  # ") for line in ended.err.splitlines() if "  # " in line]
    filled = {option.strip(): why for option, why in told}
    assert filled["--machine_type=g2-standard-8"] == "carries one nvidia-l4"
    assert filled[f"--dataflow_service_options='{ACCELERATOR}'"]
    assert len(filled) == 12


def test_no_wait_prints_the_id_and_returns(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fake_dataflow.run(service, "--no_wait") == 0
    assert capsys.readouterr().out == f"{JOB_ID}\n"
    assert service.requests == ["POST jobs"]


def test_without_a_gpu_workers_are_of_cpus(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fake_dataflow.run(service, "--no_wait") == 0
    assert "serviceOptions" not in service.environment
    assert service.pool["machineType"] == "n2-standard-8"
    assert service.pool["numThreadsPerWorker"] == 8
    assert service.pool["workerHarnessContainerImage"] == IMAGE


def test_an_option_that_is_given_wins(service: FakeDataflow) -> None:
    assert (
        fake_dataflow.run(
            service,
            *(
                "--no_wait",
                "--gpu",
                "nvidia-tesla-t4",
                "--machine_type",
                "n1-highmem-16",
            ),
            *("--disk_size_gb", "77", "--autoscaling_algorithm", "NONE"),
            *("--num_workers", "3", "--number_of_worker_harness_threads", "5"),
            *(
                "--sdk_container_image",
                "gcr.io/p/i:1",
                "--experiments",
                "shuffle_mode=x",
            ),
            *("--job_name", "mine", "--max_num_workers", "4"),
        )
        == 0
    )
    pool = service.pool
    assert (pool["machineType"], pool["diskSizeGb"]) == ("n1-highmem-16", 77)
    assert (pool["numWorkers"], pool["numThreadsPerWorker"]) == (3, 5)
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 4
    assert pool["workerHarnessContainerImage"] == "gcr.io/p/i:1"
    assert "shuffle_mode=service" not in service.environment["experiments"]
    assert service.job is not None and service.job["name"] == "mine"


def test_all_of_beams_checks_pass_on_a_real_endpoint_name(
    service: FakeDataflow,
) -> None:
    # Beam skips its checks for `localhost` and allows no port, so it must be port 80.
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(fake_dataflow.serving(service, port=80))
        except OSError:
            pytest.skip("port 80 cannot be had")
        endpoint = ("--dataflow_endpoint", "http://127.0.0.1/sandbox")
        assert main(fake_dataflow.command(*L4, *endpoint, "--no_wait")) == 0
    assert service.pool["kind"] == "harness"
    assert service.pool["machineType"] == "g2-standard-8"


def test_the_template_launcher_gets_the_job_in_a_file(service: FakeDataflow) -> None:
    file = f"{GS}/launches/job_object"
    parameters = [f"--{name}={value}" for name, value in _TEMPLATE.items()]
    arguments = command_line([*parameters, f"--template_location={file}"])
    assert main(arguments) == 0
    assert service.requests == []
    with storage.open_input(file) as source:
        job = json.loads(source.read())
    assert job["environment"]["serviceOptions"] == [ACCELERATOR]
    assert job["environment"]["workerPools"][0]["machineType"] == "g2-standard-8"


_TEMPLATE = {
    **{"input": f"{GS}/in/b.parquet", "output": f"{GS}/out", "gpu": "nvidia-l4"},
    **{"model": "random:R14x1", "runner": "DataflowRunner", "project": "my-project"},
    **{"region": "us-central1", "temp_location": f"{GS}/tmp"},
}


def test_what_beam_refuses_is_one_line(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        *fake_dataflow.command("--dataflow_endpoint", "http://127.0.0.1/sandbox")
    ]
    command[command.index("my-project")] = "123456"
    before = storage.list_uris(f"{GS}/**")
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "bitbeam: error: Invalid Project ID (123456). Please make sure you specified"
        " the Project ID, not project number."
    )
    assert storage.list_uris(f"{GS}/**") == before
