"""A Dataflow job's options: what is not given is filled in, contradictions refused."""

import difflib
import importlib.metadata
import os
import re
import sys
import time
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from transforms import storage

from .errors import UsageError
from .machines import GPUS, built_in_gpus, cores
from .options import RunOptions

IN_IMAGE = "/opt/bitbeam/models/"
"""Where the Dockerfile puts a model: a local path that workers do see."""

_CPU_MACHINE = "n2-standard-8"
_GPU_DISK_GB, _CPU_DISK_GB = 100, 50
_MOST_WORKERS = 10
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_ONE_PROCESS = "no_use_multiple_sdk_containers"
_A_PROCESS_A_CORE = "use_multiple_sdk_containers"
_BEAM_IN_TAG = re.compile(r"(?:beam[-_]?|sdk:)(\d+\.\d+\.\d+)")
_PYTHON_IN_TAG = re.compile(r"py(?:thon)?[-_]?(3)\.?(\d{1,2})(?!\d)")


@dataclass(frozen=True)
class Accelerator:
    """The GPU of every worker, as `worker_accelerator` has it.

    Attributes:
      kind: Its name.
      count: How many a worker has.
      mps: Several processes share it by NVIDIA's MPS.
    """

    kind: str
    count: int = 1
    mps: bool = False

    @property
    def option(self) -> str:
        """For `--dataflow_service_options`."""
        made = f"worker_accelerator=type:{self.kind};count:{self.count}"
        return f"{made};install-nvidia-driver"


@dataclass(frozen=True)
class Setting:
    """An option that was filled in.

    Attributes:
      option: As on the command line.
      why: A few words.
    """

    option: str
    why: str


def settle(beam_options: PipelineOptions, options: RunOptions) -> tuple[Setting, ...]:
    """Fills in what a Dataflow job needs and was not given.

    Args:
      beam_options: As given; changed.
      options: Of the run.

    Returns:
      What was filled in.

    Raises:
      UsageError: Something is missing, or contradicts something else.
    """
    _check_places(beam_options.view_as(GoogleCloudOptions))
    _check_paths(options)
    accelerator = _accelerator(beam_options, options.gpu)
    _check_processes(beam_options, accelerator)
    _check_machine(beam_options.view_as(WorkerOptions).machine_type, accelerator)
    settings = [
        *_fill_service(beam_options, accelerator, asked=options.gpu),
        *_fill_workers(beam_options, accelerator),
        *_fill_container(beam_options, accelerator),
    ]
    workers = beam_options.view_as(WorkerOptions)
    _check_image(workers.sdk_container_image or workers.worker_harness_container_image)
    return tuple(settings)


def describe(beam_options: PipelineOptions, settings: tuple[Setting, ...]) -> str:
    """The block that says what was filled in, without a line's end."""
    google = beam_options.view_as(GoogleCloudOptions)
    head = (
        f"Dataflow job {google.job_name} in project {google.project}, region"
        f" {google.region}; filled in (an option that you give wins):"
    )
    lines = [f"  {each.option:<44}  # {each.why}" for each in settings]
    return "\n".join([head, *lines])


def image_name(*, project: str, region: str, gpu: bool) -> str:
    """The image that a job runs in, where none is given."""
    version = importlib.metadata.version("bitbeam")
    tag = f"{version}-py{_PYTHON}-beam{beam.__version__}" + ("-gpu" if gpu else "")
    # A project of a domain, `example.com:project`, is a folder in a registry.
    folder = project.replace(":", "/")
    return f"{region}-docker.pkg.dev/{folder}/bitbeam/bitbeam:{tag}"


def _check_places(google: GoogleCloudOptions) -> None:
    for name, example in (
        ("project", "my-project"),
        ("region", "us-central1"),
        ("temp_location", "gs://my-bucket/tmp"),
    ):
        if not getattr(google, name):
            raise UsageError(f"DataflowRunner needs --{name}, such as {example}")
    for name in ("temp_location", "staging_location"):
        place = getattr(google, name)
        if place and not place.startswith("gs://"):
            raise UsageError(f"--{name} {place} is not on Cloud Storage; give gs://...")


def _check_paths(options: RunOptions) -> None:
    """Refuses what workers could not see."""
    places = [("--input", pattern) for pattern in options.inputs.patterns]
    for name, place in (*places, ("--output", options.output.folder)):
        if storage.is_local(place):
            raise UsageError(
                f"{name} {place} is local, and Dataflow's workers do not see it; copy"
                " it to gs:// or s3://"
            )
    model = options.model
    for name, file in (
        ("--model", model.model),
        ("--label_model", model.label_model),
        ("--labels", model.labels),
    ):
        # Names of published models are no paths; what is in the image may not be here.
        if file and not file.startswith(IN_IMAGE) and os.path.exists(file):
            raise UsageError(
                f"{name} {file} is local, and Dataflow's workers do not see it; copy"
                f" it to gs://, or build it into the image, below {IN_IMAGE}"
            )


def _accelerator(beam_options: PipelineOptions, gpu: str | None) -> Accelerator | None:
    """The GPU that `--gpu` or the service option asks for."""
    if gpu and gpu not in GPUS:
        near = difflib.get_close_matches(gpu, GPUS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"it may be {', '.join(GPUS)}"
        raise UsageError(f"--gpu {gpu} is not known; {hint}")
    given = _given_accelerator(beam_options)
    if gpu and given:
        raise UsageError(
            f"--gpu {gpu} and --dataflow_service_options worker_accelerator both name"
            " the GPU; drop one of them"
        )
    accelerator = Accelerator(gpu) if gpu else given
    hints = beam_options.view_as(StandardOptions).resource_hints
    if accelerator and any(hint.startswith("accelerator") for hint in hints):
        raise UsageError(
            f"--resource_hints {hints[0]} gives a GPU to some steps and"
            f" {accelerator.kind} is for all workers; drop the hint: all of the work"
            " is one step"
        )
    return accelerator


def _given_accelerator(beam_options: PipelineOptions) -> Accelerator | None:
    given = beam_options.view_as(GoogleCloudOptions).dataflow_service_options or []
    for option in given:
        name, _, value = option.partition("=")
        if name == "worker_accelerator":
            fields = dict(field.partition(":")[::2] for field in value.split(";"))
            count = fields.get("count", "1")
            if "type" not in fields or not count.isdecimal():
                raise UsageError(
                    f"--dataflow_service_options {option!r} lacks a type or a count;"
                    f" try {Accelerator('nvidia-l4').option!r}"
                )
            return Accelerator(fields["type"], int(count), "use_nvidia_mps" in fields)
    return None


def _check_processes(
    beam_options: PipelineOptions, accelerator: Accelerator | None
) -> None:
    experiments = beam_options.view_as(DebugOptions).experiments or []
    many = _A_PROCESS_A_CORE in experiments
    if many and _ONE_PROCESS in experiments:
        raise UsageError(f"--experiments has {_A_PROCESS_A_CORE} and its opposite")
    if accelerator is None:
        return
    if accelerator.mps and not many:
        raise UsageError(
            "use_nvidia_mps shares a GPU among processes, and a worker has one; drop"
            f" it, or add --experiments {_A_PROCESS_A_CORE}"
        )
    if many and not accelerator.mps:
        raise UsageError(
            f"--experiments {_A_PROCESS_A_CORE} loads a model for each core onto one"
            " GPU; drop it: threads feed the GPU, and decoding does not hold the GIL"
        )
    if accelerator.count != 1:
        raise UsageError(
            f"worker_accelerator count:{accelerator.count}: a worker's process feeds"
            " one GPU; give count:1 and more workers"
        )


def _check_machine(machine: str | None, accelerator: Accelerator | None) -> None:
    if accelerator is None:
        return
    gpu = GPUS.get(accelerator.kind)
    if gpu is None:
        if machine is None:
            raise UsageError(
                f"the machine type for {accelerator.kind} is not known; give"
                " --machine_type"
            )
        return
    if machine is None:
        return
    # A custom type without a family is of N1.
    family = "n1-" if machine.startswith("custom-") else machine
    if not family.startswith(gpu.family):
        raise UsageError(
            f"--machine_type {machine} cannot carry {gpu.name}; {gpu.machine} can"
        )
    if built_in_gpus(machine) not in (None, 1):
        raise UsageError(
            f"--machine_type {machine} has {built_in_gpus(machine)} GPUs, and a"
            f" worker's process feeds one; try {gpu.machine}"
        )


def _fill_service(
    beam_options: PipelineOptions, accelerator: Accelerator | None, *, asked: str | None
) -> list[Setting]:
    google = beam_options.view_as(GoogleCloudOptions)
    debug = beam_options.view_as(DebugOptions)
    settings = []
    if not google.job_name:
        google.job_name = time.strftime("bitbeam-%Y%m%d-%H%M%S", time.gmtime())
        settings.append(Setting(f"--job_name={google.job_name}", "from the time, UTC"))
    if accelerator and asked:
        others = google.dataflow_service_options or []
        google.dataflow_service_options = [*others, accelerator.option]
        text = f"--dataflow_service_options='{accelerator.option}'"
        settings.append(Setting(text, "each worker, with the driver"))
    experiments = list(debug.experiments or [])
    if not {_ONE_PROCESS, _A_PROCESS_A_CORE} & set(experiments):
        debug.add_experiment(_ONE_PROCESS)
        settings.append(Setting(f"--experiments={_ONE_PROCESS}", "one model a worker"))
    if not any(each.startswith("shuffle_mode") for each in experiments):
        debug.add_experiment("shuffle_mode=service")
        settings.append(Setting("--experiments=shuffle_mode=service", "no disk for it"))
    return settings


def _fill_workers(
    beam_options: PipelineOptions, accelerator: Accelerator | None
) -> list[Setting]:
    workers = beam_options.view_as(WorkerOptions)
    debug = beam_options.view_as(DebugOptions)
    settings = []
    if workers.machine_type is None:
        gpu = GPUS[accelerator.kind] if accelerator else None
        workers.machine_type = gpu.machine if gpu else _CPU_MACHINE
        why = f"carries one {gpu.name}" if gpu else "vector units for the model"
        settings.append(Setting(f"--machine_type={workers.machine_type}", why))
    threads = cores(workers.machine_type)
    if debug.number_of_worker_harness_threads is None and threads:
        debug.number_of_worker_harness_threads = threads
        text = f"--number_of_worker_harness_threads={threads}"
        settings.append(Setting(text, "a shard for each core"))
    if workers.disk_size_gb is None:
        workers.disk_size_gb = _GPU_DISK_GB if accelerator else _CPU_DISK_GB
        text = f"--disk_size_gb={workers.disk_size_gb}"
        settings.append(Setting(text, "the system and the image"))
    if workers.autoscaling_algorithm is None:
        workers.autoscaling_algorithm = "THROUGHPUT_BASED"
        text = "--autoscaling_algorithm=THROUGHPUT_BASED"
        settings.append(Setting(text, "workers follow the work"))
    if workers.max_num_workers is None:
        workers.max_num_workers = max(_MOST_WORKERS, workers.num_workers or 0)
        text = f"--max_num_workers={workers.max_num_workers}"
        settings.append(Setting(text, "bounds the cost"))
    return settings


def _fill_container(
    beam_options: PipelineOptions, accelerator: Accelerator | None
) -> list[Setting]:
    google = beam_options.view_as(GoogleCloudOptions)
    workers = beam_options.view_as(WorkerOptions)
    setup = beam_options.view_as(SetupOptions)
    settings = []
    if not (workers.sdk_container_image or workers.worker_harness_container_image):
        workers.sdk_container_image = image_name(
            project=google.project, region=google.region, gpu=accelerator is not None
        )
        text = f"--sdk_container_image={workers.sdk_container_image}"
        settings.append(Setting(text, "made with the Dockerfile"))
    if setup.sdk_location == "default":
        setup.sdk_location = "container"
        settings.append(Setting("--sdk_location=container", "Beam is in the image"))
    if setup.save_main_session is None:
        setup.save_main_session = False
        settings.append(Setting("--no_save_main_session", "steps are in a package"))
    return settings


def _check_image(image: str) -> None:
    """Holds the versions that an image's name tells against this process's."""
    name = image.rsplit("/", 1)[-1]
    beam_version = _BEAM_IN_TAG.search(name)
    if beam_version and beam_version[1] != beam.__version__:
        raise UsageError(
            f"--sdk_container_image {image} has Beam {beam_version[1]} and this is Beam"
            f" {beam.__version__}; they must be the same: build the image anew"
        )
    python = _PYTHON_IN_TAG.search(name)
    if python and f"{python[1]}.{python[2]}" != _PYTHON:
        raise UsageError(
            f"--sdk_container_image {image} has Python {python[1]}.{python[2]} and this"
            f" is Python {_PYTHON}; they must be the same: build the image anew"
        )
