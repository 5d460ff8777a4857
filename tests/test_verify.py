"""Whatever is done to an output is found, and what is named is what was done."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.cli import main
from pipeline.job import identity_digest
from tests import outputs, tables
from tests.conftest import Verify
from tests.tables import changed, part


def _names(lines: list[str], path: Path, small_table: Path) -> bool:
    """Whether any line names a file."""
    return any(str(path.relative_to(small_table)) in line for line in lines)


def _files(small_table: Path) -> list[Path]:
    return sorted(path for path in small_table.rglob("*") if path.is_file())


def test_what_a_run_wrote_is_verified(verify: Verify, small_table: Path) -> None:
    parts = len(tables.tables(small_table, "embeddings"))
    rows = [*outputs.embeddings(small_table).to_pylist(), *outputs.errors(small_table)]
    shards = len({row["shard"] for row in rows})
    assert shards >= 4 and len(rows) == 58
    assert verify() == (
        0,
        [
            f"bitbeam: verified: 58 images in {parts} parts of {shards} shards:"
            " nothing lost, nothing twice"
        ],
    )


def test_each_file_that_is_deleted_is_missed(verify: Verify, small_table: Path) -> None:
    for path in _files(small_table):
        with changed(path):
            path.unlink()
            code, lines = verify()
        assert code == (2 if path.name == "run.json" else 1), path
        assert path.name == "run.json" or _names(lines, path, small_table), (
            path,
            lines,
        )
    assert verify()[0] == 0


def test_a_part_under_another_name_is_found(verify: Verify, small_table: Path) -> None:
    for path in tables.tables(small_table):
        stem = path.stem.removesuffix("-last")
        names = {
            "later": f"{stem[:-10]}{int(stem[-10:]) + 8:010d}.parquet",
            "last": f"{stem}{'' if path.stem.endswith('-last') else '-last'}.parquet",
            "version": f"{stem[:-21]}0123456789{stem[-11:]}.parquet",
            "copy": f"{path.stem} (1).parquet",
            "deeper": f"copy/{path.name}",
        }
        for name in names.values():
            copy = path.parent / name
            if copy.exists():
                continue
            copy.parent.mkdir(exist_ok=True)
            with changed(copy):
                shutil.copy(path, copy)
                code, lines = verify()
            assert code == 1 and _names(lines, copy, small_table), (copy, lines)
    assert verify()[0] == 0


def test_files_cut_short_are_found(verify: Verify, small_table: Path) -> None:
    for path in _files(small_table):
        content = path.read_bytes()
        for size in (0, 3, 11, len(content) // 2, len(content) - 9, len(content) - 1):
            with changed(path):
                path.write_bytes(content[:size])
                code, lines = verify()
            assert code == 1 and _names(lines, path, small_table), (path, size, lines)


def test_each_byte_that_is_flipped_is_found(verify: Verify, small_table: Path) -> None:
    dice = random.Random(1)
    for path in _files(small_table):
        content = path.read_bytes()
        offsets = range(len(content))
        tail = offsets[-9:]
        for offset in [*dice.sample(offsets, min(25, len(offsets))), *tail]:
            flipped = bytearray(content)
            flipped[offset] ^= 1 << dice.randrange(8)
            with changed(path):
                path.write_bytes(flipped)
                code, lines = verify()
            assert code == 1 and _names(lines, path, small_table), (path, offset, lines)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all that is neither a dict nor a list."""
    if isinstance(value, dict) and value:
        for key in value:
            yield from _leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for at in range(len(value)):
            yield from _leaves(value[at], (*path, at))
    else:
        yield path


def _another(value: object) -> object:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x"


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_each_field_that_is_edited_is_found(
    verify: Verify, small_table: Path, name: str
) -> None:
    path = small_table / name
    content = json.loads(path.read_text())
    leaves = list(_leaves(content))
    assert len(leaves) > 15
    for leaf in leaves:
        edited = json.loads(path.read_text())
        at = edited
        for key in leaf[:-1]:
            at = at[key]
        at[leaf[-1]] = _another(at[leaf[-1]])
        with changed(path):
            path.write_text(json.dumps(edited, indent=2) + "\n")
            code, lines = verify()
        assert code == 1 and any(name in line for line in lines), (leaf, lines)


def test_an_edited_identity_that_fits_itself_is_found(
    verify: Verify, small_table: Path
) -> None:
    path = small_table / "run.json"
    run = json.loads(path.read_text())
    run["images"]["fit"] = "crop"
    free = ("bitbeam", "format", "identity", "checks")
    run["identity"] = identity_digest({k: run[k] for k in run if k not in free})
    with changed(path):
        path.write_text(json.dumps(run, indent=2) + "\n")
        code, lines = verify()
    assert code == 1
    assert "is of another run" in lines[0]


CHANGES: dict[str, tables.Change] = {
    "removed": lambda rows: rows.slice(1),
    "twice": lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]),
    "renamed": lambda rows: tables.with_value(rows, "key", 0, "another"),
    "renumbered": lambda rows: tables.with_value(rows, "row", 0, 1_000),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_part_that_an_editor_rewrote_is_found(
    verify: Verify, small_table: Path, change: tables.Change
) -> None:
    paths = tables.with_rows(tables.tables(small_table))
    assert len(paths) >= 10
    for path in paths:
        with changed(path):
            tables.rewrite(path, change)
            code, lines = verify()
        assert code == 1 and _names(lines, path, small_table), (path, lines)
        assert any(
            str(path.relative_to(small_table)) + ": row" in line for line in lines
        )


def test_parts_that_are_swapped_are_both_found(
    verify: Verify, small_table: Path
) -> None:
    first = part(small_table, shard="a_tar", first=0)
    second = part(small_table, shard="b_parquet", first=0)
    with changed(first, second):
        one, two = first.read_bytes(), second.read_bytes()
        first.write_bytes(two)
        second.write_bytes(one)
        code, lines = verify()
    assert code == 1
    assert lines == [
        f"bitbeam: embeddings/{first.name}: is the part {second.stem} under another"
        " name",
        f"bitbeam: embeddings/{second.name}: is the part {first.stem} under another"
        " name",
    ]


def test_a_file_of_another_run_is_found(
    verify: Verify, small_table: Path, small_source: Path, tmp_path: Path
) -> None:
    other = (*tables.RUN, "--fit", "crop")
    assert tables.run(tmp_path, small_source / "a.tar", options=other) == 0
    for name in ("errors", "embeddings"):
        theirs = part(tmp_path, shard="a_tar", first=0, table=name)
        ours = small_table / name / theirs.name
        with changed(ours):
            shutil.copy(theirs, ours)
            code, lines = verify()
        assert code == 1 and _names(lines, ours, small_table), (ours, lines)


def test_what_lies_in_the_tables_must_be_ours(
    verify: Verify, small_table: Path
) -> None:
    strays = [
        "embeddings/notes.txt",
        "errors/x.parquet",
        "embeddings/.a.parquet~host~1~00.partial",
        "more.parquet",
    ]
    for name in strays:
        with changed(small_table / name):
            (small_table / name).write_bytes(b"")
            code, lines = verify()
        assert code == 1 and lines[0].startswith(f"bitbeam: {name}: is "), lines
    with changed(small_table / "notes.txt"):
        (small_table / "notes.txt").write_text("mine")
        assert verify()[0] == 0


def test_an_unfinished_run_is_one_only_if_it_is_said(
    verify: Verify, small_table: Path
) -> None:
    gone = part(small_table, shard="a_tar", first=0)
    half = gone.parent / f".{gone.name}~host~1~00.partial"
    with changed(small_table / "summary.json", gone, half):
        (small_table / "summary.json").unlink()
        code, lines = verify()
        assert code == 1
        assert lines == [
            "bitbeam: summary.json: is missing: the run has not finished (--unfinished"
            " proves what is there)"
        ]
        gone.unlink()  # its errors file stays
        half.write_bytes(b"PAR1")
        code, lines = verify("--unfinished")
        assert code == 0, lines
        assert lines[0].startswith("bitbeam: verified so far: 50 images in ")
        other = part(small_table, shard="b_parquet", first=0)
        with changed(other):
            other.write_bytes(other.read_bytes()[:-1])
            code, lines = verify("--unfinished")
        assert code == 1 and _names(lines, other, small_table)


def test_of_many_problems_a_few_are_told(verify: Verify, small_table: Path) -> None:
    names = [small_table / f"embeddings/{number:03d}.txt" for number in range(50)]
    with changed(*names):
        for name in names:
            name.write_bytes(b"")
        code, lines = verify()
    assert code == 1
    assert len(lines) == 21
    assert lines[-1] == "bitbeam: and 30 more of the kind stray"


def test_what_is_no_output_is_wrong_usage(
    tmp_path: Path, small_table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    for arguments, message in {
        (str(nowhere),): f"{nowhere} has no run.json: it is no output of bitbeam",
        (str(small_table), "--inputs", "x"): "did you mean --input?",
        (str(small_table), "--input", str(nowhere)): f"nothing to read in {nowhere}",
        (str(small_table), "--input", "x", "--unfinished"): "do not go together",
    }.items():
        assert main(["verify", *arguments]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("bitbeam: error: ") and message in line
