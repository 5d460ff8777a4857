"""Damaged images cost their own rows, and nothing else."""

from pathlib import Path

import pytest

from benchmarks import damaged


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_images_cost_their_own_rows(tmp_path: Path) -> None:
    report = damaged.survive(tmp_path, images=200, seed=1)
    assert report.failures == []
    assert report.errors.pop("good") == {"": 100}
    assert len(report.errors) == 10
    assert sum(found.total() for found in report.errors.values()) == 200
    assert 80 < sum(found.total() - found[""] for found in report.errors.values()) < 190
    assert report.slowest[0] < 5
    # An image of --max_pixels in each thread that decodes.
    assert report.peak < report.peak_good + 2**30
