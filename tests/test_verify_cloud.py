"""`bitbeam verify` on object stores."""

from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.cli import main
from tests import emulators, outputs
from tests.emulators import BUCKET
from transforms import storage

gcs, s3 = emulators.gcs, emulators.s3
_gcs_port, _s3_port = emulators._gcs_port, emulators._s3_port
google_credentials = emulators.google_credentials


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_an_output_in_an_object_store_is_verified(
    scheme: str,
    small_table: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emulator = request.getfixturevalue("gcs" if scheme == "gs" else "s3")
    options = list(emulator.arguments) if scheme == "s3" else []
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(options))
    output = f"{scheme}://{BUCKET}/table"
    files = outputs.files(small_table)
    for name, content in files.items():
        storage.write_whole(f"{output}/{name}", content)
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    assert main(["verify", output, *options]) == 0
    said = capsys.readouterr().out
    assert said.startswith("bitbeam: verified: 58 images in ")
    name = min(name for name in files if name.startswith("embeddings/"))
    storage.remove(f"{output}/{name}")
    assert main(["verify", f"{output}/", *options]) == 1
    assert f"bitbeam: {name}: is missing: " in capsys.readouterr().out
    assert main(["verify", f"{output}/nowhere", *options]) == 2
    assert "nowhere has no run.json" in capsys.readouterr().err
