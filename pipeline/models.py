"""`bitbeam models`: what --model may be."""

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from transforms.bit import Published, models_table

_FORMS = """\
--model may be a name of the table, or

  a tfhub.dev or Kaggle URL of a module     (both of Kaggle's forms)
  a SavedModel folder, or .tar.gz of one    local, gs:// or s3://
  a .npz checkpoint of BiT                  local, gs:// or s3://
  random:R50x1[:CLASSES[:SEED]]             for dry runs: the results mean nothing

Modules are found as tensorflow_hub finds them: TFHUB_CACHE_DIR may hold them already.
Other remote files are copied once to BITBEAM_CACHE (~/.cache/bitbeam).
"""
_WIDTH = 160
_RUNS = "BiT-M-<architecture>-run<0 1 2>-<task>"


def print_models() -> None:
    """Prints the forms of a model's name, and the table of the published ones."""
    print(_FORMS)
    table = Table(box=SIMPLE)
    for name in ("name", "classes", "embedding", "parameters", "px", "what for"):
        left = name in ("name", "what for")
        table.add_column(name, no_wrap=True, justify="left" if left else "right")
    runs = 0
    for model in models_table():
        if "-run" in model.name:
            runs += 1
        else:
            table.add_row(*_row(model))
    # Names are for copying: none is cut, whatever the terminal's width.
    Console(width=_WIDTH, soft_wrap=True).print(table)
    print(f"and {runs} checkpoints {_RUNS}, each tuned on a task of VTAB.")


def _row(model: Published) -> tuple[str, ...]:
    return (
        model.name,
        f"{model.classes:,}" if model.classes else "-",
        f"{model.embedding_size:,}",
        f"{model.parameters:,}",
        str(model.image_size),
        model.purpose,
    )
