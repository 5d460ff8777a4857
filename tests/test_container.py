"""The image and the Flex Template agree with the code that they are made for."""

import ast
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks import container
from pipeline.arguments import build_parser, run_options
from pipeline.dataflow import IN_IMAGE, image_name
from template.main import command_line
from template.metadata import metadata
from tests import documented

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _instructions(word: str) -> list[str]:
    """What follows a word at the start of the Dockerfile's instructions."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{word} +(.+)$", joined, re.MULTILINE)


def _arguments() -> dict[str, str]:
    """Build arguments with a default."""
    pairs = (line.partition("=")[::2] for line in _instructions("ARG") if "=" in line)
    return dict(pairs)


def _constraints() -> dict[str, str]:
    """Versions of packages that the image gets."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def _requirements() -> list[Requirement]:
    """What setup.py asks for, with the extras of the image."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    [call] = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    [needed] = (word.value for word in call.keywords if word.arg == "install_requires")
    found = [Requirement(text) for text in ast.literal_eval(needed)]
    return [*found, Requirement("boto3>=1.34")]


def test_beam_in_the_image_is_the_one_installed() -> None:
    installed = importlib.metadata.version("apache-beam")
    assert _arguments()["BEAM"] == installed
    assert _constraints()["apache-beam"] == installed
    [sdk] = (line for line in _instructions("FROM") if line.endswith("AS sdk"))
    assert sdk == "apache/beam_python${PYTHON}_sdk:${BEAM} AS sdk"


def test_python_in_the_image_is_the_one_installed() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert _arguments()["PYTHON"] == version
    assert _instructions("FROM")[-1] == "python:${PYTHON}-slim"


def test_tensorflow_in_the_image_is_the_one_installed() -> None:
    installed = importlib.metadata.version("tensorflow")
    assert _constraints()["tensorflow"] == installed


@pytest.mark.parametrize("requirement", _requirements(), ids=str)
def test_what_setup_asks_for_is_pinned_within_its_range(
    requirement: Requirement,
) -> None:
    version = _constraints()[requirement.name.lower()]
    assert requirement.specifier.contains(version)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    listed = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in listed if line.startswith("!")}
    copies = [line.split() for line in _instructions("COPY") if "--from" not in line]
    sources = [source.rstrip("/") for line in copies for source in line[:-1]]
    assert "setup.py" in sources and "transforms" in sources
    for source in sources:
        if source != "${MODEL}":
            assert (ROOT / source).exists()
            assert source in allowed


def test_all_packages_of_the_program_are_copied() -> None:
    targets = {line.split()[-1] for line in _instructions("COPY")}
    assert {"./pipeline", "./transforms", "./template"} <= targets


def test_a_model_is_where_the_program_looks_for_it() -> None:
    assert f"${{MODEL}} {IN_IMAGE}" in _instructions("COPY")
    # Of an empty name COPY makes the whole folder.
    assert (ROOT / _arguments()["MODEL"]).is_file()


def test_the_trial_of_the_image_has_all_that_it_is_built_from() -> None:
    images = container.froms(DOCKERFILE)
    assert images == {
        "sdk": "apache/beam_python3.11_sdk:2.77.0",
        "launcher": "gcr.io/dataflow-templates-base/python311-template-launcher-base"
        ":20230622_RC00",
        "": "python:3.11-slim",
    }
    assert container.full_name(images[""]) == "docker.io/library/python:3.11-slim"
    assert container.full_name(images["launcher"]) == images["launcher"]
    copied = [line for line in _instructions("COPY") if "--from" in line]
    assert [line.split()[1] for line in copied] == [
        str(Path(container.BOOT).parent),
        container.LAUNCHER,
    ]
    assert _instructions("ENTRYPOINT") == [f'["{container.BOOT}"]']


def test_the_image_is_checked_when_it_is_built() -> None:
    assert any("pip check" in line for line in _instructions("RUN"))
    assert any("beam.__version__ == '${BEAM}'" in line for line in _instructions("RUN"))


def test_the_template_has_the_options_of_the_program() -> None:
    written = json.loads((ROOT / "template" / "metadata.json").read_text())
    assert written == metadata(), "python -m template.metadata > template/metadata.json"
    names = [parameter["name"] for parameter in written["parameters"]]
    assert {"input", "model", "output", "gpu", "keep_columns"} <= set(names)
    assert set(names).isdisjoint({"runner", "help", "no_wait", "dry_run"})


def test_the_template_asks_for_what_the_program_asks_for() -> None:
    needed = [
        each["name"] for each in metadata()["parameters"] if not each["isOptional"]
    ]
    assert needed == ["input", "model", "output"]


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        *(("fit", "pad", True), ("fit", "squash", False)),
        *(("top_k", "5", True), ("top_k", "five", False)),
        *(("min_score", "0.25", True), ("min_score", "1", True)),
        *(("min_score", "a", False), ("overwrite", "true", True)),
        ("overwrite", "yes", False),
    ],
)
def test_the_template_refuses_what_the_program_refuses(
    name: str, value: str, fits: bool
) -> None:
    [parameter] = (each for each in metadata()["parameters"] if each["name"] == name)
    [pattern] = parameter["regexes"]
    assert bool(re.search(pattern, value)) is fits


def test_the_launchers_parameters_become_a_command_line() -> None:
    arguments = command_line(
        [
            *("--input=gs://b/a-*.tar gs://b/c.parquet", "--output=gs://b/out"),
            *("--model=BiT-M-R50x1", "--keep_columns=json label:int64"),
            *("--overwrite=true", "--labels=", "--top_k=3", "--gpu=nvidia-l4"),
            *("--runner=DataflowRunner", "--project=p", "--region=r"),
            "--template_location=gs://b/staging/job_object",
        ]
    )
    options = run_options(*build_parser().parse_known_args(arguments))
    assert options.inputs.patterns == ("gs://b/a-*.tar", "gs://b/c.parquet")
    assert options.inputs.keep_columns == ("json", "label:int64")
    assert options.output.overwrite is True
    assert options.model.labels is None
    assert (options.model.top_k, options.gpu) == (3, "nvidia-l4")
    assert options.runner == "DataflowRunner"
    assert options.beam == (
        *("--project=p", "--region=r"),
        "--template_location=gs://b/staging/job_object",
    )


def test_an_option_that_is_false_is_left_out() -> None:
    assert command_line(["--overwrite=false"]) == ["run"]


def test_the_documented_image_is_the_one_that_is_looked_for() -> None:
    image = image_name(project="my-project", region="us-central1", gpu=True)
    builds = [
        each
        for each in documented.commands("dataflow.md", "docker")
        if each[0] == "build"
    ]
    assert [command[command.index("-t") + 1] for command in builds] == [image]
    [build] = (
        each for each in documented.commands("dataflow.md", "gcloud") if "build" in each
    )
    assert build[build.index("--image") + 1] == image


def test_the_documented_parameters_are_the_templates() -> None:
    [command] = (
        each
        for each in documented.commands("dataflow.md", "gcloud")
        if each[1:3] == ["flex-template", "run"]
    )
    given = command[command.index("--parameters") + 1].split(",")
    names = {parameter["name"] for parameter in metadata()["parameters"]}
    assert len(given) == 4
    assert {pair.split("=")[0] for pair in given} <= names
