"""The rules of the house that a machine can hold."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.typehints import typehints

from transforms import decode, predict, read, write

ROOT = Path(__file__).parent.parent


def _imports(package: str) -> Iterator[tuple[str, str]]:
    """Pairs of a file and a module that it imports, absolute."""
    for path in sorted((ROOT / package).rglob("*.py")):
        at = path.relative_to(ROOT).with_suffix("").parts[:-1]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield str(path.relative_to(ROOT)), alias.name
            elif isinstance(node, ast.ImportFrom):
                base = at[: len(at) + 1 - node.level] if node.level else ()
                parts = [*base, *([node.module] if node.module else [])]
                yield str(path.relative_to(ROOT)), ".".join(parts)


def _importers(package: str, module: str) -> list[str]:
    return [
        path
        for path, name in _imports(package)
        if name == module or name.startswith(module + ".")
    ]


def test_transforms_knows_nothing_of_pipeline() -> None:
    assert _importers("pipeline", "transforms")  # the finder finds
    assert _importers("transforms", "pipeline") == []


def test_the_model_knows_nothing_of_beam() -> None:
    assert _importers("transforms", "apache_beam")
    assert _importers("transforms/bit", "apache_beam") == []


def test_tensorflow_is_imported_by_the_model_only() -> None:
    importers = {
        path
        for package in ("pipeline", "transforms")
        for path in _importers(package, "tensorflow")
    }
    assert importers
    assert [path for path in importers if not path.startswith("transforms/bit/")] == []


def test_no_module_turns_type_hints_into_any() -> None:
    imported = [*_imports("pipeline"), *_imports("transforms")]
    assert [path for path, name in imported if name == "__future__"] == []


@pytest.mark.parametrize(
    "dofn",
    [
        read._ReadImages,
        decode._DecodeBlocks,
        predict._PredictImages,
        write._WriteParts,
        write._WriteGathered,
    ],
)
def test_no_step_takes_or_gives_any(dofn: type[beam.DoFn]) -> None:
    hints = dofn.get_type_hints(dofn.__new__(dofn))
    assert hints.input_types is not None and hints.output_types is not None
    named = [*hints.input_types[0], *hints.output_types[0]]
    assert named and Any not in named
    assert typehints.Any not in named


def _imported_by(statement: str) -> set[str]:
    """Top-level modules that a statement imports in a new process."""
    tops = "{name.split('.')[0] for name in sys.modules}"
    code = f"{statement}\nimport sys\nprint(*{tops})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_neither_beam_nor_tensorflow() -> None:
    imported = _imported_by(
        "import contextlib, pipeline.cli\n"
        "with contextlib.suppress(SystemExit): pipeline.cli.main(['run', '--help'])"
    )
    assert imported.isdisjoint({"apache_beam", "tensorflow", "numpy", "pyarrow"})


def test_the_steps_do_not_import_tensorflow() -> None:
    assert "tensorflow" not in _imported_by("import transforms")


def _run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT
    )
    return f"{done.stdout}{done.stderr}" if done.returncode else ""


def test_the_linter_finds_nothing() -> None:
    assert _run("ruff", "check", ".") == ""


def test_the_code_is_formatted() -> None:
    assert _run("ruff", "format", "--check", ".") == ""


def test_the_types_hold() -> None:
    assert _run("mypy") == ""
