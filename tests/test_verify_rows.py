"""Rows that are wrong are found, also where all digests fit."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests import tables
from tests.conftest import Verify
from tests.tables import changed, part


def _first_vector(rows: pa.Table, value: float) -> pa.Table:
    vectors = rows["embedding"].to_pylist()
    vectors[0][7] = value
    field = rows.schema.field("embedding")
    at = rows.schema.get_field_index("embedding")
    return rows.set_column(at, field, pa.array(vectors, field.type))


FORGED: dict[str, tuple[tables.Change, str]] = {
    "removed": (lambda rows: rows.slice(1), "row 8: in neither table, of"),
    "some": (
        lambda rows: rows.filter(pc.is_in(rows["row"], pa.array([8, 11, 15]))),
        "rows 9 to 10, 12 to 14: in neither table, of",
    ),
    "twice": (
        lambda rows: pa.concat_tables([rows, rows.slice(2, 1)]),
        "row 10: there more than once",
    ),
    "order": (
        lambda rows: rows.take(pa.array([1, 0, 2, 3, 4, 5, 6, 7])),
        "its rows are not in order",
    ),
    "outside": (
        lambda rows: tables.with_value(rows, "row", 7, 16),
        "row 16: not of this part, rows 8 to 15",
    ),
    "shard": (
        lambda rows: tables.with_value(rows, "shard", 3, "elsewhere"),
        "row 11: the shard is not /",
    ),
    "infinite": (
        lambda rows: _first_vector(rows, float("inf")),
        "row 8: the embedding is not finite",
    ),
    "nan": (
        lambda rows: _first_vector(rows, float("nan")),
        "row 8: the embedding is not finite",
    ),
    "column": (
        lambda rows: rows.drop_columns(["sha256"]),
        "has no column sha256 of type fixed_size_binary[32], not null",
    ),
    "nullable": (
        lambda rows: rows.set_column(
            3, pa.field("sha256", pa.binary(32)), rows["sha256"]
        ),
        "has no column sha256 of type fixed_size_binary[32], not null",
    ),
    "more": (
        lambda rows: rows.append_column("more", rows["key"]),
        "has other columns than most: more: string",
    ),
    "vector": (
        lambda rows: rows.set_column(
            rows.schema.get_field_index("embedding"), "embedding", rows["width"]
        ),
        "has no column embedding of vectors, not null",
    ),
    "shorter": (
        lambda rows: rows.set_column(
            rows.schema.get_field_index("embedding"),
            pa.field("embedding", pa.list_(pa.float32(), 2), nullable=False),
            pa.array([[1.0, 2.0]] * len(rows), pa.list_(pa.float32(), 2)),
        ),
        "has embeddings of 2 x float, not ('float', 2048)",
    ),
}


@pytest.mark.parametrize(("change", "message"), FORGED.values(), ids=FORGED.keys())
def test_rows_that_are_wrong_are_found_where_all_digests_fit(
    verify: Verify, small_table: Path, change: tables.Change, message: str
) -> None:
    path = part(small_table, shard="a_tar", first=8)
    with changed(path, small_table / "summary.json"):
        tables.forge(path, change)
        code, lines = verify()
    assert code == 1
    assert any(
        line.startswith(f"bitbeam: embeddings/{path.name}: {message}") for line in lines
    ), lines


def test_a_row_moved_between_the_tables_is_found(
    verify: Verify, small_table: Path
) -> None:
    good = part(small_table, shard="a_tar", first=0)
    bad = part(small_table, shard="a_tar", first=0, table="errors")
    with changed(good, bad, small_table / "summary.json"):
        tables.forge_errors(bad, lambda rows: tables.with_value(rows, "row", 0, 3))
        code, lines = verify()
    assert code == 1
    assert any("row 3: there more than once" in line for line in lines), lines
    assert any("row 2: in neither table" in line for line in lines), lines


def test_errors_of_another_kind_than_counted_are_found(
    verify: Verify, small_table: Path
) -> None:
    good = part(small_table, shard="a_tar", first=0)
    bad = part(small_table, shard="a_tar", first=0, table="errors")
    with changed(good, bad, small_table / "summary.json"):
        tables.forge_errors(
            bad, lambda rows: tables.with_value(rows, "error", 0, "too_large")
        )
        code, lines = verify()
    assert code == 1
    assert "'too_large': 1" in lines[0] and good.name in lines[0]


def test_a_member_that_is_another_file_is_found(
    verify: Verify, small_table: Path
) -> None:
    path = tables.with_rows(tables.tables(small_table, "embeddings"))[-1]
    assert path.name.startswith("d-g")
    with changed(path, small_table / "summary.json"):
        tables.forge(
            path, lambda rows: tables.with_value(rows, "key", 0, "/another.jpg")
        )
        code, lines = verify()
    assert code == 1
    assert "has metadata of other plain files than its rows" in lines[0]


def test_an_errors_file_with_other_columns_is_found(
    verify: Verify, small_table: Path
) -> None:
    good = part(small_table, shard="a_tar", first=0)
    bad = part(small_table, shard="a_tar", first=0, table="errors")
    with changed(good, bad, small_table / "summary.json"):
        tables.forge_errors(bad, lambda rows: rows.drop_columns(["bytes"]))
        code, lines = verify()
    assert code == 1
    assert lines[0] == (
        f"bitbeam: errors/{bad.name}: has other columns than an errors file has"
    )
