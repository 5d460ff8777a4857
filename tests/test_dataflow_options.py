"""What contradicts itself on Dataflow is one line, before anything is looked at."""

from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.cli import main
from pipeline.dataflow import settle
from pipeline.errors import UsageError
from pipeline.machines import GPUS, Gpu, built_in_gpus, cores
from pipeline.options import InputOptions, ModelOptions, OutputOptions, RunOptions

PLACES = (
    *("--project", "my-project", "--region", "us-central1"),
    *("--temp_location", "gs://b/tmp"),
)
SERVICE = "--dataflow_service_options"
L4 = "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"


def _settle(*beam: str, gpu: str | None = None, model: str = "random:R14x1") -> str:
    """Why these options are refused; empty where they are not."""
    options = RunOptions(
        inputs=InputOptions(patterns=("gs://b/*.tar",)),
        model=ModelOptions(model=model),
        output=OutputOptions(folder="gs://b/out"),
        gpu=gpu,
    )
    try:
        settle(PipelineOptions([*PLACES, *beam]), options)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("beam", "gpu", "message"),
    [
        (
            [SERVICE, f"{L4};use_nvidia_mps"],
            None,
            "use_nvidia_mps shares a GPU among processes, and a worker has one; drop"
            " it, or add --experiments use_multiple_sdk_containers",
        ),
        (
            ["--experiments", "use_multiple_sdk_containers"],
            "nvidia-l4",
            "--experiments use_multiple_sdk_containers loads a model for each core"
            " onto one GPU; drop it: threads feed the GPU, and decoding does not hold"
            " the GIL",
        ),
        (
            [
                "--experiments",
                "use_multiple_sdk_containers,no_use_multiple_sdk_containers",
            ],
            None,
            "--experiments has use_multiple_sdk_containers and its opposite",
        ),
        (
            ["--resource_hints", "accelerator=type:nvidia-l4;count:1"],
            "nvidia-l4",
            "--resource_hints accelerator=type:nvidia-l4;count:1 gives a GPU to some"
            " steps and nvidia-l4 is for all workers; drop the hint: all of the work is"
            " one step",
        ),
        (
            ["--machine_type", "n1-standard-8"],
            "nvidia-l4",
            "--machine_type n1-standard-8 cannot carry nvidia-l4; g2-standard-8 can",
        ),
        (
            ["--machine_type", "g2-standard-8"],
            "nvidia-tesla-t4",
            "--machine_type g2-standard-8 cannot carry nvidia-tesla-t4; n1-standard-8"
            " can",
        ),
        (
            ["--machine_type", "g2-standard-48"],
            "nvidia-l4",
            "--machine_type g2-standard-48 has 4 GPUs, and a worker's process feeds"
            " one; try g2-standard-8",
        ),
        (
            [SERVICE, "worker_accelerator=type:nvidia-tesla-t4;count:2"],
            None,
            "worker_accelerator count:2: a worker's process feeds one GPU; give count:1"
            " and more workers",
        ),
        (
            [SERVICE, L4],
            "nvidia-l4",
            "--gpu nvidia-l4 and --dataflow_service_options worker_accelerator both"
            " name the GPU; drop one of them",
        ),
        (
            [SERVICE, "worker_accelerator=nvidia-l4"],
            None,
            "--dataflow_service_options 'worker_accelerator=nvidia-l4' lacks a type or"
            f" a count; try {L4!r}",
        ),
        (
            [SERVICE, "worker_accelerator=type:nvidia-z9;count:1"],
            None,
            "the machine type for nvidia-z9 is not known; give --machine_type",
        ),
        ([], "nvidia-l5", "--gpu nvidia-l5 is not known; did you mean nvidia-l4?"),
        (
            ["--temp_location", "/tmp"],
            None,
            "--temp_location /tmp is not on Cloud Storage; give gs://...",
        ),
        (
            ["--sdk_container_image", "apache/beam_python3.11_sdk:2.60.0"],
            None,
            "--sdk_container_image apache/beam_python3.11_sdk:2.60.0 has Beam 2.60.0"
            " and this is Beam 2.77.0; they must be the same: build the image anew",
        ),
        (
            ["--worker_harness_container_image", "r/p/i:1-beam2.60.0"],
            None,
            "--sdk_container_image r/p/i:1-beam2.60.0 has Beam 2.60.0 and this is Beam"
            " 2.77.0; they must be the same: build the image anew",
        ),
    ],
)
def test_a_contradiction_is_refused_with_the_remedy(
    beam: list[str], gpu: str | None, message: str
) -> None:
    assert _settle(*beam, gpu=gpu) == message


@pytest.mark.parametrize("tag", ["1-py3.9", "1-py39-x", "1-python3.9"])
def test_an_image_of_another_python_is_refused(tag: str) -> None:
    message = _settle("--sdk_container_image", f"r/p/i:{tag}")
    assert message.startswith(
        f"--sdk_container_image r/p/i:{tag} has Python 3.9 and this is Python 3."
    )


@pytest.mark.parametrize(
    ("beam", "gpu"),
    [
        ([SERVICE, L4], None),
        (
            [
                *(SERVICE, f"{L4};use_nvidia_mps"),
                *("--experiments", "use_multiple_sdk_containers"),
            ],
            None,
        ),
        (["--machine_type", "custom-8-32768"], "nvidia-tesla-t4"),
        (["--machine_type", "g2-custom-8-32768"], "nvidia-l4"),
        (["--sdk_container_image", "r/p/i@sha256:beam"], None),
        (["--experiments", "use_multiple_sdk_containers"], None),
        (["--resource_hints", "min_ram=30GB"], "nvidia-l4"),
        *([[], gpu] for gpu in GPUS),
    ],
)
def test_what_is_no_contradiction_passes(beam: list[str], gpu: str | None) -> None:
    assert _settle(*beam, gpu=gpu) == ""


def test_a_local_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BiT-M-R50x1.npz"
    path.touch()
    assert _settle(model=str(path)) == (
        f"--model {path} is local, and Dataflow's workers do not see it; copy it to"
        " gs://, or build it into the image, below /opt/bitbeam/models/"
    )
    assert _settle(model="/opt/bitbeam/models/BiT-M-R50x1.npz") == ""


def _error(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line of a command that is used wrongly."""
    arguments = ("--model", "random:R14x1", "--runner", "DataflowRunner", *options)
    assert main(("run", *arguments)) == 2
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    return line.removeprefix("bitbeam: error: ")


@pytest.mark.parametrize(
    ("left_out", "example"),
    [
        ("project", "my-project"),
        ("region", "us-central1"),
        ("temp_location", "gs://my-bucket/tmp"),
    ],
)
def test_what_is_missing_is_named(
    capsys: pytest.CaptureFixture[str], left_out: str, example: str
) -> None:
    given = dict(zip(PLACES[::2], PLACES[1::2], strict=True))
    del given[f"--{left_out}"]
    options = [part for pair in given.items() for part in pair]
    options += ["--input", "gs://b/*.tar", "--output", "gs://b/o"]
    assert _error(capsys, *options) == (
        f"DataflowRunner needs --{left_out}, such as {example}"
    )


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("/data/*.tar", "gs://b/o", "--input /data/*.tar is local"),
        ("gs://b/*.tar", "out", "--output out is local"),
    ],
)
def test_a_local_place_is_refused(
    capsys: pytest.CaptureFixture[str], source: str, output: str, message: str
) -> None:
    options = (*PLACES, "--input", source, "--output", output)
    assert _error(capsys, *options) == (
        f"{message}, and Dataflow's workers do not see it; copy it to gs:// or s3://"
    )


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        *(("g2-standard-8", 8), ("n1-highmem-16", 16), ("a2-highgpu-1g", 12)),
        *(("custom-6-23040", 6), ("n2-custom-12-1024", 12), ("a3-highgpu-1g", 26)),
        ("e2-medium", None),
    ],
)
def test_cores_are_read_off_a_machine_type(machine: str, expected: int | None) -> None:
    assert cores(machine) == expected


@pytest.mark.parametrize("gpu", GPUS.values(), ids=list(GPUS))
def test_the_default_machine_of_a_gpu_carries_one(gpu: Gpu) -> None:
    machine = gpu.machine
    assert machine.startswith(gpu.family)
    assert built_in_gpus(machine) in (1, None)
    assert cores(machine)
