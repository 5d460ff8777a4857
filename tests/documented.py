"""The commands that the pages show, and other names that they use."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```(?:ba)?sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FOREIGN = re.compile(r"^(gcloud|docker) .*$", re.MULTILINE)


def text(page: str) -> str:
    """A page, by its name below `docs/`."""
    return (ROOT / "docs" / page).read_text()


def commands(page: str, program: str = "") -> list[list[str]]:
    """A page's commands in words, in order; those of one program without its name."""
    blocks = "".join(_BLOCK.findall(text(page))).replace("\\\n", "")
    found = [shlex.split(line) for line in blocks.splitlines() if line.strip()]
    if not program:
        return found
    return [words[1:] for words in found if words[0] == program]


def option_names(page: Path) -> list[str]:
    """Options that a page names, but for those of gcloud and docker."""
    named = re.findall(r"(?<![\w-])--[a-z][\w-]*", _FOREIGN.sub("", page.read_text()))
    return sorted(set(named))


def benchmark_options() -> set[str]:
    """Options of the benchmarks, as their sources have them."""
    sources = (file.read_text() for file in (ROOT / "benchmarks").rglob("*.py"))
    return {name for text in sources for name in re.findall(r'"(--[a-z]\w*)"', text)}


def paths(page: Path) -> list[str]:
    """Files of the repository that a page names in code."""
    folders = "benchmarks|docs|pipeline|template|tests|transforms"
    return re.findall(rf"`((?:{folders})/[\w./]+\.\w+)`", page.read_text())


def modules(page: Path) -> list[str]:
    """Modules that a page runs."""
    return re.findall(r"python -m ([\w.]+\w)", page.read_text())
