"""Runs that are killed at random instants end as one that nobody kills."""

from pathlib import Path

import pytest

from benchmarks import chaos


def _torment(folder: Path, *, kills: int) -> None:
    report = chaos.torment(folder, kills=kills, seed=1, pictures=40)
    assert report.failures == []
    assert report.kills.total() == kills
    assert report.outputs >= kills // 10
    # Two undisturbed ones, and all at their end; most also while they were unfinished.
    assert report.verified >= 2 + report.outputs
    assert report.compared > 20 * report.outputs


def test_killed_runs_end_in_the_same_files(tmp_path: Path) -> None:
    _torment(tmp_path, kills=5)


@pytest.mark.slow
def test_runs_killed_often_end_in_the_same_files(tmp_path: Path) -> None:
    _torment(tmp_path, kills=40)
