"""How a model runs on a machine: by a rule, or as was measured, once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import tables
from transforms.bit import ModelInfo, ModelSpec, describe, load, machine, tuning
from transforms.bit.tuning import Tuning, tune

MEASURED = ModelSpec("random:R50x1", batch_size=16, tune="measure")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITBEAM_CACHE", str(tmp_path / "cache"))
    _on(monkeypatch, cores=4)


def _on(
    monkeypatch: pytest.MonkeyPatch,
    *,
    cores: int,
    memory: int = 64 << 30,
    gpu: bool = False,
) -> None:
    """Another machine."""
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "memory", lambda: memory)
    monkeypatch.setattr(machine, "has_gpu", lambda: gpu)


class _Trial:
    """Gives the rates that it was made with, by threads and batch size."""

    def __init__(self, rates: dict[tuple[int, int], float]) -> None:
        self._rates = rates
        self.asked: list[tuple[int, list[int]]] = []

    def __call__(
        self, spec: ModelSpec, info: ModelInfo, *, threads: int, batches: list[int]
    ) -> list[tuple[int, float]]:
        self.asked.append((threads, batches))
        return [
            (batch, self._rates[threads, batch])
            for batch in batches
            if (threads, batch) in self._rates
        ]


def _info(spec: ModelSpec) -> ModelInfo:
    return describe(spec)


def test_a_batch_size_that_is_given_is_kept() -> None:
    spec = ModelSpec("random:R50x1", batch_size=12)
    assert tune(spec, _info(spec)) == Tuning(1, 12)


def test_streams_that_memory_does_not_hold_are_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 16 images a stream; 5 tensors of 480 / 2 pixels squared, 256 channels, float32:
    # 4.4 GiB a stream, of which a quarter of the memory must hold all.
    spec = ModelSpec("random:R152x4", image_size=480, batch_size=16)
    for memory, threads in ((400, 1), (60, 2), (20, 4), (1, 4)):
        _on(monkeypatch, cores=4, memory=memory << 30)
        assert tune(spec, _info(spec)).threads == threads, memory


def test_the_rule_is_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(MEASURED, tune="rule")
    assert tune(spec, _info(spec)) == Tuning(1, 8)
    _on(monkeypatch, cores=4, gpu=True)
    spec = replace(spec, batch_size=256)
    assert tune(spec, _info(spec)) == Tuning(0, 64)


def test_the_fastest_is_chosen_and_of_equals_the_one_that_needs_less() -> None:
    trial = _Trial({(1, 4): 10.0, (1, 8): 20.0, (1, 16): 20.1, (4, 8): 20.9})
    assert tune(MEASURED, _info(MEASURED), trial=trial) == Tuning(1, 8)
    assert trial.asked == [(1, [4, 8, 16]), (4, [8, 16])]


def test_more_threads_are_chosen_where_they_are_faster() -> None:
    trial = _Trial({(1, 4): 10.0, (1, 8): 9.0, (4, 4): 10.0, (4, 16): 11.0})
    assert tune(MEASURED, _info(MEASURED), trial=trial) == Tuning(4, 16)


def test_a_gpu_is_tried_with_larger_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    _on(monkeypatch, cores=4, gpu=True)
    spec = replace(MEASURED, batch_size=256)
    trial = _Trial({(0, 16): 100.0, (0, 32): 180.0, (0, 64): 300.0, (0, 128): 310.0})
    assert tune(spec, _info(spec), trial=trial) == Tuning(0, 128)
    assert trial.asked == [(0, [16, 32, 64, 128, 256])]


def test_a_machine_measures_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = _Trial({(1, 16): 10.0})
    for _ in range(2):
        assert tune(MEASURED, _info(MEASURED), trial=trial) == Tuning(1, 16)
    assert len(trial.asked) == 2  # for one thread, and for four
    other = replace(MEASURED, precision="bfloat16")
    tune(other, _info(other), trial=trial)
    assert len(trial.asked) == 4
    monkeypatch.setattr(machine, "digest", lambda: "another")
    tune(MEASURED, _info(MEASURED), trial=trial)
    assert len(trial.asked) == 6


def test_a_trial_that_fails_leaves_the_rule_and_is_tried_again() -> None:
    trial = _Trial({})
    for count in (2, 4):
        assert tune(MEASURED, _info(MEASURED), trial=trial) == Tuning(1, 8)
        assert len(trial.asked) == count


def test_a_cache_that_cannot_be_written_leaves_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BITBEAM_CACHE", str(tmp_path / "file"))
    trial = _Trial({(1, 16): 10.0})
    assert tune(MEASURED, _info(MEASURED), trial=trial) == Tuning(1, 8)


def test_a_kept_result_that_is_damaged_is_measured_again(tmp_path: Path) -> None:
    trial = _Trial({(1, 16): 10.0})
    tune(MEASURED, _info(MEASURED), trial=trial)
    [kept] = (tmp_path / "cache" / "tuning").glob("*.json")
    assert json.loads(kept.read_text()) == {"threads": 1, "batch_size": 16}
    kept.write_text('{"threads": 1')
    assert tune(MEASURED, _info(MEASURED), trial=trial) == Tuning(1, 16)
    assert len(trial.asked) == 4


def test_a_trial_measures_batches_in_a_process_of_its_own() -> None:
    spec = ModelSpec("random:R14x1:30", image_size=32, batch_size=4)
    rates = tuning.run_trial(spec, _info(spec), threads=1, batches=[2, 4])
    assert [batch for batch, _ in rates] in ([2], [2, 4])
    assert all(rate > 0 for _, rate in rates)


def test_a_trial_tries_each_batch_size_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from transforms.bit import trial

    # The third is slower than the second, so the fourth is not tried.
    laps = iter([10.0, 20.0, 18.0, 19.0, 21.0, 9.0])
    monkeypatch.setattr(trial, "_rate", lambda predictor, lap: next(laps))
    asked = {
        **{"model": "random:R14x1:30", "image_size": 32, "precision": "float32"},
        **{"top_k": 3, "batches": [2, 4, 8, 16]},
    }
    assert list(trial.rates(asked)) == [
        *((2, 10.0), (4, 20.0), (8, 18.0)),
        *((8, 19.0), (4, 21.0), (2, 9.0)),
    ]


def test_a_trial_that_cannot_run_gives_nothing() -> None:
    spec = ModelSpec("random:R14x1:30", image_size=32, precision="float16")
    info = replace(_info(spec), architecture="R15x1")
    assert tuning.run_trial(spec, info, threads=1, batches=[2]) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_batch_size_changes_no_bit_of_an_embedding(precision: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    spec = ModelSpec(
        "random:R14x1:30", image_size=64, batch_size=12, precision=precision
    )
    whole = load(spec)
    expected = whole(images)
    assert expected.scores is not None
    for size in (2, 3, 4, 8):
        model = whole.resized(size)
        for start in range(0, 12, size):
            found = model(images[start : start + size])
            rows = slice(start, start + len(found.embeddings))
            assert np.array_equal(found.embeddings, expected.embeddings[rows])
            # Sums over the classes are another matter.
            np.testing.assert_allclose(found.scores, expected.scores[rows], rtol=1e-5)


def test_a_run_chooses_the_batch_size_itself(
    small_source: Path, small_table: Path, tmp_path: Path
) -> None:
    options = (*tables.MODEL[:4], "--rows_per_part", "8")
    assert "--batch_size" not in options
    assert tables.run(tmp_path / "out", small_source, options=options) == 0
    parts = tables.tables(small_table, "embeddings")
    assert len(parts) >= 9
    for part in parts:
        found = pq.read_table(tmp_path / "out" / "embeddings" / part.name)
        for name in ("key", "sha256", "embedding"):
            assert found[name].equals(pq.read_table(part)[name]), (part, name)


def test_a_container_may_have_fewer_cores_and_less_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    assert machine.cores(cgroup=tmp_path) == 16
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.cores(cgroup=tmp_path) == 16
    assert machine.memory(cgroup=tmp_path) > 1 << 30
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine.cores(cgroup=tmp_path) == 3
    assert machine.memory(cgroup=tmp_path) == 1 << 20


def test_a_gpu_is_seen_unless_it_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not machine.has_gpu(gpus=tmp_path / "none")
    (tmp_path / "0000:01:00.0").mkdir()
    assert machine.has_gpu(gpus=tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not machine.has_gpu(gpus=tmp_path)


def test_machines_are_told_apart_by_processor_and_gpu(tmp_path: Path) -> None:
    cpuinfo, gpus = tmp_path / "cpuinfo", tmp_path / "gpus"
    cpuinfo.write_text("model name\t: A\ncpu MHz\t\t: 2000\n")
    first = machine.digest(cpuinfo=cpuinfo, gpus=gpus)
    cpuinfo.write_text("model name\t: A\ncpu MHz\t\t: 3000\n")
    assert machine.digest(cpuinfo=cpuinfo, gpus=gpus) == first
    cpuinfo.write_text("model name\t: B\ncpu MHz\t\t: 2000\n")
    second = machine.digest(cpuinfo=cpuinfo, gpus=gpus)
    (gpus / "0").mkdir(parents=True)
    (gpus / "0" / "information").write_text("Model: \t\t NVIDIA L4\n")
    assert len({first, second, machine.digest(cpuinfo=cpuinfo, gpus=gpus)}) == 3
