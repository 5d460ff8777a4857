"""A side of a contest that sleeps: `python tests/fake_side.py NAME SECONDS [HOW]`.

HOW is `die` (at the third lap), `spin` (use the processor when idle), `refuse` (never
be ready) or a file to which the name is added at every lap.
"""

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.laps import serve

NAME, SECONDS, HOW = (*sys.argv[1:], "")[:3]
LAPS = []


def spin():
    while True:
        pass


def work(amount):
    LAPS.append(amount)
    if HOW == "die" and len(LAPS) == 3:
        sys.exit("out of strength")
    if "/" in HOW:
        with open(HOW, "a") as log:
            log.write(f"{NAME}\n")
    print("a library says something")
    time.sleep(amount * float(SECONDS))
    return 10 * amount, {"cpu_s": time.process_time()}


def prepare():
    print("another, too")
    if HOW == "refuse":
        raise ModuleNotFoundError("No module named 'torch'")
    if HOW == "spin":
        threading.Thread(target=spin, daemon=True).start()
    return {"precision": "float32", "embeddings": [[1.0, float(SECONDS)]]}, work


serve(prepare)
