"""The harness of `python -m benchmarks`, with sides that sleep."""

import dataclasses
import json
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.contest import Bar, Contest, Outcome, Subject, hold
from benchmarks.machine import Machine
from benchmarks.side import Once, Side

FAKE = Path(__file__).with_name("fake_side.py")
HERE = Machine(
    cpu="AMD EPYC zen5",
    cores=2,
    flags=("avx512_bf16",),
    memory_gib=23.5,
    gpu="",
    load=0.1,
)
AMX = dataclasses.replace(HERE, flags=("amx_bf16",))


def side(name, seconds, how="", **more):
    return Side(name, (sys.executable, str(FAKE), name, str(seconds), str(how)), **more)


def contest(ours, *others, **more):
    more = {"lap_s": 0, "subject": Subject("r50x1", size="224"), **more}
    ours = ours if isinstance(ours, tuple) else (ours,)
    return Contest("row", "a row", "A over B", ours=ours, others=others, **more)


def held(of, *, rounds=3):
    outcome = Outcome(of)
    hold(outcome, rounds=rounds)
    return outcome


def test_the_ratio_is_that_of_the_speeds():
    outcome = held(contest(side("a", 0.05), side("b", 0.1)))
    assert statistics.median(outcome.figures) == pytest.approx(2, rel=0.1)
    assert len(outcome.figures) == 3
    assert outcome.shown("a") == pytest.approx(200, rel=0.1)
    assert outcome.problems == []


def test_each_ratio_is_taken_within_its_round():
    outcome = held(contest(side("a", 0.01), side("b", 0.02)))
    for ratio, laps in zip(outcome.figures, outcome.rounds, strict=True):
        assert ratio == laps["a"].speed / laps["b"].speed


def test_laps_take_turns_and_the_order_turns_around(tmp_path):
    log = tmp_path / "log"
    held(contest(side("a", 0, log), side("b", 0, log)), rounds=4)
    warm, *turns = "ab", "ab", "ba", "ab", "ba"
    assert log.read_text().split() == [*warm, *"".join(turns)]


def test_the_fastest_of_each_team_goes_on():
    ours = (side("slow", 0.1), side("fast", 0.02))
    others = (side("x", 0.2), side("y", 0.06), side("z", 0.04))
    outcome = held(contest(ours, *others, finalists=2))
    assert set(outcome.rounds[0]) == {"fast", "y", "z"}
    assert (outcome.ours, outcome.other) == ("fast", "z")
    assert set(outcome.qualifying) == {"slow", "fast", "x", "y", "z"}
    assert statistics.median(outcome.figures) == pytest.approx(2, rel=0.2)


def test_a_lap_is_as_long_as_asked():
    outcome = held(contest(side("a", 0.01), lap_s=0.2), rounds=1)
    assert outcome.rounds[0]["a"].seconds == pytest.approx(0.2, rel=0.2)


def test_a_side_that_is_idle_costs_nothing():
    spinning = side("b", 0, "spin")
    outcome = held(contest(side("a", 0.3), spinning), rounds=4)
    used = [laps["b"].more["cpu_s"] for laps in outcome.rounds]
    # It spins from its start, and a's laps took more than a second.
    assert used[-1] - used[0] < 0.3


def test_a_side_that_dies_gives_a_line_and_the_others_go_on():
    outcome = held(
        contest(side("a", 0.01), side("b", 0.02, "die"), side("c", 0.03)), rounds=4
    )
    assert outcome.problems == ["b: ended with code 1, out of strength"]
    assert len(outcome.figures) == 4
    assert all(set(laps) == {"a", "c"} for laps in outcome.rounds)


def test_what_was_measured_before_our_side_died_stands():
    outcome = held(contest(side("a", 0.01, "die"), side("b", 0.02)), rounds=4)
    assert outcome.problems == ["a: ended with code 1, out of strength"]
    assert len(outcome.figures) == 1


def test_a_peer_that_is_not_installed_says_what_to_do():
    remedy = "pip install -e '.[peers]'"
    missing = side("torch", 0, "refuse", needs=remedy)
    outcome = held(contest(side("a", 0), missing))
    [problem] = outcome.problems
    assert "No module named 'torch'" in problem and remedy in problem
    assert outcome.figures == []
    assert held(contest(side("a", 0.01), missing, side("c", 0.01))).figures


def test_a_side_that_takes_too_long_is_ended():
    began = time.monotonic()
    outcome = held(contest(side("a", 60, limit=1)))
    assert outcome.problems == ["a: took longer than 1 s"]
    assert time.monotonic() - began < 10


def test_a_command_can_be_a_lap():
    code = "import json; print('x'); print(json.dumps(dict(seconds=2, units=8, y=3)))"
    ours = Once("a", (sys.executable, "-c", code))
    # A process has at least the peak of its parent.
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 100
    allocate = f"x = b'x' * ({mib} << 20)"
    other = Once("b", (sys.executable, "-c", allocate), units=5)
    outcome = held(contest(ours, other, shown="peak_mib"), rounds=2)
    lap, beside = outcome.rounds[0]["a"], outcome.rounds[0]["b"]
    assert (lap.seconds, lap.units, lap.more["y"]) == (2, 8, 3)
    assert lap.more["wall_s"] < 2 and beside.units == 5
    assert beside.seconds == beside.more["wall_s"]
    assert mib < beside.more["peak_mib"] < mib + 50
    assert lap.more["peak_mib"] < mib - 50
    ratio = lap.more["peak_mib"] / beside.more["peak_mib"]
    assert outcome.figures[0] == ratio


def test_a_command_that_fails_is_a_problem():
    outcome = held(contest(Once("a", (sys.executable, "-c", "raise OSError('full')"))))
    assert outcome.problems == ["a: ended with code 1, OSError: full"]


def test_without_others_the_figure_is_the_quantity_itself():
    outcome = held(contest(side("a", 0.2), shown="seconds", bar=Bar(0.7, False)))
    assert outcome.figures == [laps["a"].seconds for laps in outcome.rounds]
    assert report.verdict(outcome, AMX) == "met"


def test_a_contest_can_have_a_figure_of_its_own():
    def product(laps):
        return laps["a"].units * laps["b"].units * laps["c"].units

    of = contest(side("a", 0), side("b", 0), side("c", 0), figure=product)
    assert held(of).figures == [1000, 1000, 1000]
    dying = contest(side("a", 0), side("b", 0, "die"), side("c", 0), figure=product)
    assert held(dying, rounds=5).figures == [1000]


@pytest.mark.parametrize(
    ("bar", "machine", "expected"),
    [
        (Bar(1.3), AMX, "met"),
        (Bar(2.5), AMX, "missed"),
        (Bar(1.3), HERE, "met; bar set on another machine"),
        (
            Bar(1.3),
            dataclasses.replace(AMX, cores=8),
            "met; bar set on another machine",
        ),
        (Bar(2.5, cores=0), HERE, "missed"),
        (Bar(2.5, at_least=False), AMX, "met"),
        (None, AMX, ""),
    ],
)
def test_the_verdict_names_a_bar_of_another_machine(bar, machine, expected):
    outcome = held(contest(side("a", 0.05), side("b", 0.1), bar=bar), rounds=1)
    assert report.verdict(outcome, machine) == expected


def test_results_are_named_and_say_how_they_were_made(tmp_path):
    outcome = held(contest(side("a", 0.05), side("b", 0.1), bar=Bar(1.3)))
    [path] = report.write([outcome], HERE, tmp_path)
    assert path.name == "amd-epyc-zen5-2c-r50x1-float32-224.json"
    row = json.loads(path.read_text())["rows"]["row"]
    assert row["figure"] == pytest.approx(2, rel=0.1)
    assert len(row["figures"]) == 3 and row["how"] == "A over B"
    assert (row["ours"], row["beside"]) == ("a", "b")
    assert row["bar"]["number"] == 1.3
    assert row["machine"]["cores"] == 2
    assert len(row["sides"]["b"]["laps"]) == 3
    assert str(FAKE) in row["sides"]["b"]["command"]
    assert 0.998 < row["sides"]["b"]["cosine_with_ours"] < 0.9995


def test_rows_of_other_runs_stay_in_the_file(tmp_path):
    outcome = held(contest(side("a", 0)), rounds=1)
    report.write([outcome], HERE, tmp_path)
    outcome.contest = dataclasses.replace(outcome.contest, name="another")
    [path] = report.write([outcome], HERE, tmp_path)
    assert set(json.loads(path.read_text())["rows"]) == {"row", "another"}


def test_the_table_shows_figure_spread_and_how(tmp_path, capsys):
    outcome = held(contest(side("a", 0.05), side("b", 0.1, "die"), bar=Bar(1.3)))
    rounds = [contest(side("a", 0.05), side("b", 0.1), bar=Bar(1.3)), outcome.contest]
    code = command.measure(rounds, AMX, rounds=4, results=tmp_path)
    printed = capsys.readouterr().out
    assert code == 0
    assert "met" in printed and ">= 1.3" in printed
    assert "row: A over B" in printed and "4 rounds" in printed
    assert "b: ended with code 1, out of strength" in printed
    assert "AMD EPYC zen5, 2 cores" in printed


def test_the_list_names_every_row_once(capsys):
    assert command.main(["--list"]) == 0
    names = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert len(names) == len(set(names))


def test_an_unknown_row_is_an_error():
    with pytest.raises(SystemExit, match="no row is named 'r50x1-peers'"):
        command.main(["--only", "r50x1-peers"])


def test_interrupted_it_shows_what_it_has(tmp_path):
    code = (
        "from tests import test_benchmarks as t; from pathlib import Path; import sys;"
        "of = t.contest(t.side('a', 0.1), t.side('b', 0.2));"
        "folder = Path(sys.argv[1]);"
        "sys.exit(t.command.measure([of], t.HERE, rounds=100, results=folder))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=FAKE.parent.parent,
    )
    for line in process.stderr:
        if "round 2" in line:
            break
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "row: A over B" in printed
    [path] = tmp_path.glob("*.json")
    assert len(json.loads(path.read_text())["rows"]["row"]["figures"]) >= 2
