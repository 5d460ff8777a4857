"""`bitbeam plan`: what a run would do, from listings, samples and a file of rates."""

import json
import re
import shutil
from pathlib import Path

import pytest
from google.cloud import storage as google_storage

from pipeline.cli import main
from pipeline.estimate import Work, cost_of
from pipeline.rates import PACKAGED, Machine, Range, Rates, gmacs, read_rates
from pipeline.sample import take_sample
from tests import emulators, outputs, photos, shards, tables
from transforms import Columns, describe_model
from transforms.bit import ModelInfo, ModelSpec
from transforms.listing import list_shards

gcs, _gcs_port = emulators.gcs, emulators._gcs_port
google_credentials = emulators.google_credentials


def _plan(
    capsys: pytest.CaptureFixture[str], output: Path, source: Path, *options: str
) -> str:
    """What is printed."""
    capsys.readouterr()
    command = ["plan", "--output", str(output), "--input", str(source), *tables.RUN]
    assert main([*command, *options]) == 0
    return capsys.readouterr().out


def test_a_plan_writes_nothing(
    small_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = _plan(capsys, tmp_path / "out", small_source / "a.tar")
    assert re.search(r"\n *tar +1 +\d+\.\d KB +~20 +\d\.\d KB", out)
    assert re.search(r"to do: 1 of 1 shards, ~20 images, \d+\.\d KB, ~3 parts\n", out)
    assert "model: random:R14x1:1000: R14x1, 64 px, embedding 2,048" in out
    assert "0.12 GMAC" in out
    assert re.search(r"c3-standard-8 +[\d,]+-[\d,]+ +< 0.01 +< 0.01 +\w+", out)
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_left_out(
    small_source: Path,
    small_table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Path(shutil.copytree(small_table, tmp_path / "out"))
    assert "to do: nothing, all is done" in _plan(capsys, output, small_source)
    parts = len(tables.tables(output, "embeddings"))
    tables.part(output, shard="a_tar", first=8).unlink()
    before = outputs.files(output)
    out = _plan(capsys, output, small_source)
    assert f"{parts - 1} parts are done" in out
    assert re.search(r"to do: 1 of \d shards, ~8 images, .* KB, ~1 parts\n", out)
    assert outputs.files(output) == before
    again = _plan(capsys, output, small_source, "--overwrite")
    assert re.search(r"0 parts are done, .*\nto do: (\d) of \1 shards, ~58 imag", again)
    assert outputs.files(output) == before


def test_a_changed_shard_is_to_do_again(
    small_source: Path,
    small_table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Path(shutil.copytree(small_source, tmp_path / "in"))
    output = tmp_path / "out"
    assert tables.run(output, source / "a.tar") == 0
    picture = photos.encode(photos.photograph(48, 48), "jpeg")
    shards.write_tar(source / "a.tar", [(str(n), {"jpg": picture}) for n in range(9)])
    out = _plan(capsys, output, source / "a.tar")
    # Three of good rows; of bad ones as many as parts had any.
    assert "0 parts are done, 4 files of changed shards would be replaced" in out
    assert "to do: 1 of 1 shards, ~9 images" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resize", "bilinear"], "is of another job: images.resize"),
        (["--rates", "nowhere.json"], "--rates nowhere.json cannot be used: FileNotFo"),
        (["--top_k", "0"], "--top_k 0 is too small"),
        (["--runner", "DataflowRunner"], "DataflowRunner needs --project"),
        (["--batch_sise", "1"], "unknown option --batch_sise; did you mean --batch_si"),
    ],
)
def test_a_wrong_plan_is_one_line(
    small_source: Path,
    small_table: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    command = ["plan", "--output", str(small_table), "--input", str(small_source)]
    assert main([*command, *tables.RUN, *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert line.startswith("bitbeam: error: ") and message in line


def test_a_plan_for_dataflow_says_what_a_run_would_fill_in(
    gcs: google_storage.Bucket,
    small_source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gcs.blob("in/a.tar").upload_from_filename(str(small_source / "a.tar"))
    bucket = f"gs://{emulators.BUCKET}"
    options = ["--runner", "DataflowRunner", "--project", "project-1"]
    options += ["--region", "europe-west4", "--temp_location", f"{bucket}/tmp"]
    command = ["plan", "--input", f"{bucket}/in", "--output", f"{bucket}/out"]
    command += [*tables.RUN, *options, "--gpu", "nvidia-l4"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "to do: 1 of 1 shards, ~20 images" in out
    assert "g2-standard-" in out and "type:nvidia-l4" in out
    assert [blob.name for blob in gcs.list_blobs()] == ["in/a.tar"]


def _pictures() -> list[bytes]:
    picture = photos.photograph(200, 100)
    return [photos.save(picture, "JPEG", quality=60 + n % 30) for n in range(500)]


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tfrecord", "parquet", "files"])
def test_the_images_of_a_shard_are_estimated(tmp_path: Path, form: str) -> None:
    pictures, path = _pictures(), tmp_path / f"in.{form}"
    samples = [(f"{n}", {"jpg": each}) for n, each in enumerate(pictures)]
    if form.startswith("tar"):
        shards.write_tar(path, samples, gz=form == "tar.gz")
    elif form == "tfrecord":
        rows = [{"image/encoded": each, "label": 3} for each in pictures]
        shards.write_tfrecord(path, rows)
    elif form == "parquet":
        shards.write_parquet(path, [{"jpg": each} for each in pictures])
    else:
        path = shards.write_files(path, {f"{k}.jpg": s["jpg"] for k, s in samples})
    found = list_shards([str(path)]).shards
    sample = take_sample(found, Columns())
    assert 480 <= sum(map(sample.rows_of, found)) <= 520
    assert sample.mean_megapixels == pytest.approx(0.02)


def test_damaged_and_empty_shards_are_no_obstacle(tmp_path: Path) -> None:
    shards.write_tar(tmp_path / "a.tar", [])
    shards.write_tar(tmp_path / "b.tar", [("x", {"jpg": b"no image"})])
    (tmp_path / "c.tar").write_bytes(b"nor is this an archive" * 100)
    sample = take_sample(list_shards([str(tmp_path)]).shards, Columns())
    assert (sample.rows, sample.images, sample.mean_megapixels) == (1, 1, 0.0)


@pytest.mark.parametrize(
    ("architecture", "image_size", "expected"),
    [
        # timm counts these too, with the norms on top (4.23, 71.23, ...).
        ("R50x1", 224, 4.09),
        ("R50x1", 384, 12.01),
        ("R101x1", 128, 2.55),
        ("R101x3", 224, 69.49),
        ("R152x2", 480, 210.35),
        ("R152x4", 224, 182.77),
    ],
)
def test_multiplications_are_counted(
    architecture: str, image_size: int, expected: float
) -> None:
    counted = gmacs(architecture, image_size=image_size)
    assert counted == pytest.approx(expected, abs=0.006)
    assert gmacs("SavedModel", image_size=224) is None


def _info(name: str) -> ModelInfo:
    return describe_model(ModelSpec(name))


@pytest.mark.parametrize(
    ("machine", "model", "precision", "expected"),
    [
        # Published for an RTX 4090, times what an L4 is of it.
        (1, "random:R101x1", "auto", (2493 * 0.3, 3551 * 0.73)),
        (1, "random:R101x1", "float32", (2493 * 0.3 * 0.25, 3551 * 0.73 * 0.25)),
        # Of no such model: the nearest, R101x1 at 448, by 31.20 GMAC to 30.96.
        (1, "random:R101x2", "auto", (656 * 0.3 * 1.008, 859 * 0.73 * 1.008)),
        (0, "random:R50x1", "auto", (160, 560)),
        (0, "random:R101x1", "auto", (160 * 4.09 / 7.80, 560 * 4.09 / 7.80)),
    ],
)
def test_rates_scale_with_the_work(
    machine: int, model: str, precision: str, expected: tuple[float, float]
) -> None:
    rates = read_rates()
    found = rates.model_rate(rates.machines[machine], _info(model), precision=precision)
    assert found == pytest.approx(expected, rel=0.01)


def _rates(model: float, *, is_cpu: bool = False) -> Rates:
    device = {"model": [["R50x1", 224, [model, model]]], "is_cpu": is_cpu}
    return Rates("today", {"it": device}, [(0.0, 0.0), (1.0, 10.0)], 1.0, ())


@pytest.mark.parametrize(
    ("model", "size", "is_cpu", "rate", "binds"),
    [
        (400.0, 10_000, False, 200.0, ("decode",)),  # two vCPUs, 10 ms each
        (100.0, 10_000, False, 100.0, ("model",)),
        (400.0, 1_000_000, False, 100.0, ("network",)),  # 0.1 GB/s
        (50.0, 10_000, True, 66.667, ("model",)),  # 200 and 100/s, taking turns
    ],
)
def test_the_slowest_binds(
    model: float, size: int, is_cpu: bool, rate: float, binds: tuple[str, ...]
) -> None:
    machine = Machine("m", "it", 2, Range(0.1, 0.1), Range(2.0, 3.0))
    cost = cost_of(
        Work(images=360_000, bytes=360_000 * size, parts=1, megapixels=1.0),
        [_info("random:R50x1")],
        machine=machine,
        rates=_rates(model, is_cpu=is_cpu),
        precision="auto",
    )
    assert cost is not None
    assert cost.rate == pytest.approx((rate, rate), rel=1e-4)
    assert cost.hours == pytest.approx((100 / rate, 100 / rate), rel=1e-4)
    assert cost.usd == pytest.approx((200 / rate, 300 / rate), rel=1e-4)
    assert cost.binds == binds


def test_two_models_take_turns() -> None:
    machine = Machine("m", "it", 2, Range(9.0, 9.0), Range(1.0, 1.0))
    cost = cost_of(
        Work(images=100, bytes=100, parts=1, megapixels=0.1),
        [_info("random:R50x1"), _info("random:R50x1:9")],
        machine=machine,
        rates=_rates(100.0),
        precision="auto",
    )
    assert cost is not None and cost.rate == pytest.approx((50.0, 50.0))


def test_rates_are_edited_in_a_file(
    small_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(PACKAGED.read_text())
    content["dated"] = "2030-01-01"
    content["machines"] = [{**content["machines"][1], "name": "mine"}]
    (tmp_path / "rates.json").write_text(json.dumps(content))
    file = str(tmp_path / "rates.json")
    out = _plan(capsys, tmp_path / "out", small_source, "--rates", file)
    assert "rates of 2030-01-01" in out
    assert re.search(r"\n *mine +", out) and "A100" not in out


def test_every_rate_says_where_it_is_from() -> None:
    content = json.loads(PACKAGED.read_text())
    sourced = [*content["devices"].values(), *content["machines"], content["decode"]]
    for each in sourced:
        kind = each["source"].split(":")[0]
        assert kind in ("measured", "public", "estimate")
