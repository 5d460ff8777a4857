"""Parts together: gapless, one version of a shard, no plain file twice."""

import numpy as np
import pytest

from pipeline.audit import Audit
from pipeline.ledger import Span, check_files, check_schemas, check_spans
from pipeline.problems import rows_text


def _span(name: str, first: int, end: int | None, *, last: bool = False) -> Span:
    stem = f"{name}-{first:010d}{'-last' if last else ''}"
    return Span(stem, name, name.rpartition("-")[0], first, end, last)


WHOLE = [_span("a-1", 0, 8), _span("a-1", 8, 16), _span("a-1", 16, 17, last=True)]


def _problems(spans: list[Span], *, finished: bool = True) -> list[str]:
    return [str(problem) for problem in check_spans(spans, finished=finished)]


def test_parts_that_follow_each_other_are_right() -> None:
    assert _problems([*WHOLE, _span("b-1", 0, 0, last=True)]) == []
    assert _problems([]) == []


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (
            WHOLE[1:],
            "embeddings/a-1-0000000008.parquet: rows 0 to 7 before it are in no part",
        ),
        (
            [WHOLE[0], WHOLE[2]],
            "embeddings/a-1-0000000016-last.parquet: rows 8 to 15 before it are in no"
            " part",
        ),
        (
            WHOLE[:2],
            "embeddings/a-1-0000000008.parquet: is the end of its shard, whose last"
            " part is missing",
        ),
    ],
)
def test_a_gap_is_a_problem_once_the_run_has_finished(
    spans: list[Span], message: str
) -> None:
    assert _problems(spans) == [message]
    assert _problems(spans, finished=False) == []


def test_rows_in_two_parts_are_a_problem() -> None:
    spans = [WHOLE[0], _span("a-1", 7, 17, last=True)]
    assert _problems(spans, finished=False) == [
        "embeddings/a-1-0000000007-last.parquet: begins at row 7, which a part before"
        " it has"
    ]


def test_a_part_behind_the_last_is_a_problem() -> None:
    spans = [*WHOLE, _span("a-1", 17, 18)]
    assert _problems(spans, finished=False) == [
        "embeddings/a-1-0000000016-last.parquet: is the last part of its shard by its"
        " name, but not by its rows"
    ]


def test_a_part_that_does_not_tell_its_end_makes_no_gap() -> None:
    assert _problems([_span("a-1", 0, None), *WHOLE[1:]]) == []


def test_two_versions_of_a_shard_are_a_problem_once_the_run_has_finished() -> None:
    spans = [*WHOLE, _span("a-2", 0, 5, last=True)]
    assert _problems(spans) == [
        "embeddings/a-1-*, embeddings/a-2-*: are 2 versions of one shard"
    ]
    assert _problems(spans, finished=False) == []


def test_a_plain_file_in_two_groups_is_a_problem_of_both() -> None:
    def audit(stem: str, *files: int) -> Audit:
        return Audit(stem, files=np.array(files, np.uint64))

    audits = [audit("a", 1, 2, 3), audit("b", 4), audit("c", 3, 5), audit("d")]
    assert [str(problem) for problem in check_files(audits)] == [
        "embeddings/a.parquet: 1 of its plain files are rows of another part too",
        "embeddings/c.parquet: 1 of its plain files are rows of another part too",
    ]
    assert list(check_files(audits[:2])) == []


def test_columns_are_those_of_most_parts() -> None:
    audits = [Audit(str(n), schema="x: a\ny: b") for n in range(3)]
    odd = Audit("odd", schema="x: a\ny: c")
    assert list(check_schemas(audits)) == []
    [problem] = check_schemas([odd, *audits, Audit("unread")])
    assert str(problem) == (
        "embeddings/odd.parquet: has other columns than most: y: b; y: c"
    )


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([5], "row 5"),
        ([6, 5, 5], "rows 5 to 6"),
        ([1, 3, 4, 9], "rows 1, 3 to 4, 9"),
        ([1, 3, 5, 7, 9, 10, 12], "rows 1, 3, 5, 7 and 3 more"),
    ],
)
def test_rows_are_told_as_ranges(rows: list[int], text: str) -> None:
    assert rows_text(np.array(rows)) == text
