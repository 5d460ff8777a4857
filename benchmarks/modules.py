"""The two seed modules through the real job: `python -m benchmarks.modules`.

Writes SavedModels of the published form and full size with random weights (BiT-S
R101x1 features, BiT-M R101x3 with 21,843 classes), then runs `bitbeam run` with one as
`--model` and the other as `--label_model` on photographs. Prints images a second, the
peak of memory, and what `run.json` says of how near each is to its SavedModel.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import photographs

MODULES = {
    "s-r101x1": "random:R101x1",
    "m-r101x3-21k": "random:R101x3:21843",
}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.modules", description=__doc__)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--write", nargs=2, metavar=("NAME", "FOLDER"))
    args = parser.parse_args()
    if args.write:
        _write_module(*args.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        _measure(args, Path(folder))


def _measure(args: argparse.Namespace, folder: Path) -> None:
    for name, weights in MODULES.items():
        # In a process of its own, so that its memory is not measured with the run's.
        module = [sys.executable, "-m", "benchmarks.modules", "--write"]
        subprocess.run([*module, weights, str(folder / name)], check=True)
    photographs.write_tar(folder / "in.tar", images=args.images)
    first, second = (str(folder / name) for name in MODULES)
    command = [sys.executable, "-m", "pipeline", "run", "--model", first]
    command += ["--label_model", second, "--input", str(folder / "in.tar")]
    command += ["--output", str(folder / "out"), "--batch_size", str(args.batch_size)]
    began = time.perf_counter()
    process = subprocess.Popen(command)
    # Of this child alone: those that wrote the modules took more memory.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit("the run failed")
    peak = usage.ru_maxrss
    _print(folder / "out", images=args.images, seconds=seconds, peak_kib=peak)


def _print(output: Path, *, images: int, seconds: float, peak_kib: int) -> None:
    run = json.loads((output / "run.json").read_text())
    [checks] = run["checks"]
    table = Table("module", "runs", "difference", "precision")
    for name, check in checks.items():
        saved = check["saved_model"]
        used = check["precision"]["used"]
        table.add_row(
            Path(name).name, saved["runs"], f"{saved['difference']:.1e}", used
        )
    Console().print(table)
    print(
        f"{images} images in {seconds:.1f} s with loading, peak {peak_kib / 2**20:.2f}"
        " GiB"
    )


def _write_module(weights: str, folder: str) -> None:
    from tests import bit_modules
    from transforms.bit.random_weights import RandomWeights

    random = RandomWeights.parse(weights)
    module = bit_modules.Module(dict(random.tensors()), depth=101)
    bit_modules.save_published(module, folder)


if __name__ == "__main__":
    main()
