"""What contests came to: on a terminal and in files."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .contest import Outcome
from .machine import Machine

_LONG = ("ready", "embeddings")
"""Facts that are not for people."""


def show(outcomes: Sequence[Outcome], machine: Machine, console: Console) -> None:
    """Prints the table, and below it how each figure was made."""
    table = Table("row", "ours", "beside", "figure", "bar", "")
    for outcome in outcomes:
        table.add_row(*_cells(outcome, machine))
    console.print(table)
    for outcome in outcomes:
        console.print()
        for line in explain(outcome):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(str(machine), markup=False, highlight=False, soft_wrap=True)


def _cells(outcome: Outcome, machine: Machine) -> list[str]:
    contest, bar = outcome.contest, str(outcome.contest.bar or "")
    if not outcome.figures:
        return [contest.title, "", "", "not measured: see below", bar, ""]
    shown = [
        f"{outcome.shown(name):.4g} {contest.unit}, {name}" if name else ""
        for name in (outcome.ours, outcome.other)
    ]
    figures = spread(outcome.figures)
    return [contest.title, *shown, figures, bar, verdict(outcome, machine)]


def spread(figures: Sequence[float]) -> str:
    """The median, and in brackets from where to where they go."""
    least, most = min(figures), max(figures)
    return f"{statistics.median(figures):.3g} [{least:.3g}..{most:.3g}]"


def verdict(outcome: Outcome, machine: Machine) -> str:
    """Whether the bar is met, and whether it was set on such a machine."""
    bar, figures = outcome.contest.bar, outcome.figures
    if not bar or not figures:
        return ""
    word = "met" if bar.is_met(statistics.median(figures)) else "missed"
    if machine.suits(bar):
        return word
    return f"{word}; bar set on another machine"


def explain(outcome: Outcome) -> list[str]:
    """How the figure was made and who took part, a line each."""
    contest, rounds = outcome.contest, outcome.rounds
    lines = [f"{contest.name}: {contest.how}"]
    if rounds:
        names = list(rounds[0])
        seconds = statistics.median(
            lap.seconds for laps in rounds for lap in laps.values()
        )
        lines.append(
            f"  {len(rounds)} rounds of laps of {seconds:.3g} s in turns, the order "
            "turned around each time; median [least..most] over the rounds"
        )
        if contest.bar and contest.bar.cores:
            bar = contest.bar
            lines.append(f"  bar {bar}: set on {bar.cores} CPU cores with {bar.flag}")
        lines += [f"  {_facts(outcome, name)}" for name in names]
    if outcome.qualifying:
        speeds = sorted(outcome.qualifying.items(), key=lambda item: -item[1])
        tried = ", ".join(f"{name} {speed:.4g}" for name, speed in speeds)
        lines.append(f"  qualifying, units a second: {tried}")
    return lines + [f"  {problem}" for problem in outcome.problems]


def _facts(outcome: Outcome, name: str) -> str:
    facts = outcome.facts[name]
    said = [
        f"{key} {_text(value)}"
        for key, value in facts.items()
        if key not in _LONG and value
    ]
    cosine = agreement(outcome, name)
    if cosine is not None and name != outcome.ours:
        said.append(f"least cosine with our embeddings {cosine:.6f}")
    return f"{name}: {', '.join(said)}" if said else name


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({', '.join(f'{key} {_text(one)}' for key, one in value.items())})"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def agreement(outcome: Outcome, name: str) -> float | None:
    """Least cosine of a side's embeddings of the probe images with ours.

    That they do the same work shows in that they come to the same.

    Returns:
      None where one of the two does not say its embeddings.
    """
    if outcome.ours is None:
        return None
    ours = outcome.facts[outcome.ours].get("embeddings")
    theirs = outcome.facts.get(name, {}).get("embeddings")
    if not ours or not theirs:
        return None
    return min(_cosine(one, two) for one, two in zip(ours, theirs, strict=False))


def _cosine(one: Sequence[float], two: Sequence[float]) -> float:
    norms = math.hypot(*one) * math.hypot(*two)
    product = math.fsum(a * b for a, b in zip(one, two, strict=True))
    return product / norms if norms else 0.0


def write(outcomes: Sequence[Outcome], machine: Machine, folder: Path) -> list[Path]:
    """Writes a file for each device, model, precision and size.

    A file that is there keeps its other rows, each with its own time and machine.

    Returns:
      What was written.
    """
    paths = []
    for outcome in outcomes:
        if not outcome.figures:
            continue
        path = folder / f"{file_stem(outcome, machine)}.json"
        rows = json.loads(path.read_text())["rows"] if path.exists() else {}
        rows[outcome.contest.name] = _row(outcome, machine)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
        paths.append(path)
    return sorted(set(paths))


def file_stem(outcome: Outcome, machine: Machine) -> str:
    """As in `amd-epyc-zen5-2c-r50x1-bfloat16-224`."""
    subject = outcome.contest.subject
    facts = outcome.facts.get(outcome.ours or "", {})
    precision = subject.precision or facts.get("precision", "")
    parts = [machine.slug, subject.model, precision, subject.size]
    return "-".join(part for part in parts if part)


def _row(outcome: Outcome, machine: Machine) -> dict[str, Any]:
    contest, figures = outcome.contest, outcome.figures
    return {
        "title": contest.title,
        "how": contest.how,
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": asdict(machine),
        "figure": statistics.median(figures),
        "least": min(figures),
        "most": max(figures),
        "figures": figures,
        "bar": asdict(contest.bar) if contest.bar else None,
        "verdict": verdict(outcome, machine),
        "shown": contest.shown,
        "unit": contest.unit,
        "ours": outcome.ours,
        "beside": outcome.other,
        "sides": {name: _side(outcome, name) for name in outcome.rounds[0]},
        "qualifying": outcome.qualifying,
        "problems": outcome.problems,
    }


def _side(outcome: Outcome, name: str) -> dict[str, Any]:
    facts = outcome.facts[name]
    sides = (*outcome.contest.ours, *outcome.contest.others)
    [command] = [side.described() for side in sides if side.name == name]
    return {
        "command": command,
        "median": outcome.shown(name),
        "facts": {key: value for key, value in facts.items() if key not in _LONG},
        "cosine_with_ours": agreement(outcome, name),
        "laps": [asdict(laps[name]) for laps in outcome.rounds],
    }
