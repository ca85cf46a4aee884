"""Benchmark of sweeps: ``python experiments/benchmarks/launchers.py [--quick]``, or ``make bench-launchers``.

Writes ``runs/bench/launchers.md`` (tables) and ``runs/bench/launchers.json``:

    table1    side -> seconds of each round: all rows of Table 1 with one epoch on a few rendered faces, one
              after the other ("serial") and side by side ("local"), in turn
    overhead  launcher -> seconds that it adds to each row ("row") and once to a sweep ("once"), of each
              round: sweeps of one short row and of several, one at a time, less the same sweeps by Hydra's
              own launcher, which trains them in its own process
    host      machine and versions
"""

import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from common import Answer, command, host, in_turn, machine, paired, publish, table

from aunet.config import prepare_data
from aunet.processes import usable_cores
from aunet.results import TABLE1

TRAIN = Path(__file__).parents[1] / "train.py"

LIMIT = 0.02
"""Share of a row's time that a launcher may add."""

SIZE = ("data.prepare.videos.train=60", "data.prepare.videos.val=20", "data.prepare.videos.test=2")
SMALL = "backbone.filters=[4,4,4,4,4,4]"


Seconds = dict[str, list[float]]
"""Of each contestant, in each round."""


def sweep(data: list[str], overrides: list[str]) -> Answer:
    """A whole sweep, from the command to its end."""
    words = [sys.executable, str(TRAIN), "--multirun", *data]
    with tempfile.TemporaryDirectory() as runs:
        started = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - our own script
            [*words, f"runs={runs}", "logger=none", "progress=false", *overrides],
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(overrides)}: {(done.stdout + done.stderr)[-2000:]}")
    return {"seconds": seconds}


def table1_sides(quick: bool) -> dict[str, list[str]]:
    """Overrides of the two ways to train the rows of Table 1."""
    rows = TABLE1[-1:] if quick else TABLE1
    experiments = f"experiment={','.join(f'table1/{row}' for row in rows)}"
    whole = [experiments, "epochs=1", *([SMALL] if quick else [])]
    return {"serial": [*whole, "hydra/launcher=basic"], "local": [*whole, "hydra/launcher=local"]}


def launchers(seeds: int) -> dict[str, list[str]]:
    """Overrides of a sweep of so many short rows, one at a time, by each launcher that needs no service."""
    rows = ["experiment=table1/ours", "epochs=1", SMALL, f"seed={','.join(map(str, range(seeds)))}"]
    found = {
        "basic": [*rows, "hydra/launcher=basic"],
        "local": [*rows, "hydra/launcher=local", "hydra.launcher.processes=1"],
    }
    if find_spec("ray"):  # of the extra "ray"
        alone = f"hydra.launcher.ray.remote.num_cpus={usable_cores()}"
        found["ray"] = [*rows, "hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0", alone]
    return found


def overhead(one: Seconds, several: Seconds, rows: int) -> dict[str, dict[str, list[float]]]:
    """What each launcher adds to Hydra's own: to each row, and once to a sweep, in each round.

    Args:
        one: Seconds of a sweep of one row.
        several: Of a sweep of several.
        rows: How many these are.
    """
    found = {}
    for name in sorted(one.keys() - {"basic"}):
        short, long = (
            [took - basic for took, basic in zip(of[name], of["basic"], strict=True)] for of in (one, several)
        )
        row = [(b - a) / (rows - 1) for a, b in zip(short, long, strict=True)]
        found[name] = {"row": row, "once": [a - r for a, r in zip(short, row, strict=True)]}
    return found


def table1_text(seconds: Seconds) -> list[str]:
    """Both ways to train Table 1, and their ratio."""
    faster = paired(seconds["serial"], seconds["local"])
    return [
        table(["Table 1, one epoch", "seconds"], [[side, median(took)] for side, took in seconds.items()]),
        f"One after the other takes {faster.median:.2f} times as long as side by side "
        f"({faster.low:.2f} to {faster.high:.2f} in {len(seconds['serial'])} rounds).\n",
    ]


def overhead_text(found: dict[str, dict[str, list[float]]]) -> str:
    """A table of the launchers."""
    header = ["launcher", "adds to a row (s)", "which is 2% of a row of (s)", "once to a sweep (s)"]
    return table(
        header,
        [
            [name, row := median(added["row"]), row / LIMIT, median(added["once"])]
            for name, added in found.items()
        ],
    )


def main() -> None:
    """Measures, shows and writes."""
    parser = command("launchers")
    parser.add_argument("--only", choices=["table1", "overhead"], help="measure and write this part alone")
    options = parser.parse_args()
    rounds, rows = (1, 2) if options.quick else (options.repeats or 3, 6)
    if options.source:
        data = ["data=affwild2", f"data.root={options.source}", "weights=none", "batch_size=4"]
    else:
        data = ["data=rendered", f"data.root={options.folder / 'launchers'}", *SIZE]
        prepare_data(data)

    def measured(sides: dict[str, list[str]], what: str) -> Seconds:
        asked = {name: lambda words=words: sweep(data, words) for name, words in sides.items()}
        return {name: found["seconds"] for name, found in in_turn(asked, rounds, what).items()}

    facts = host()
    content: dict[str, Any] = {}
    text = []
    if options.only != "overhead":
        content["table1"] = measured(table1_sides(options.quick), "Table 1")
        text += table1_text(content["table1"])
    if options.only != "table1":
        one, several = (measured(launchers(n), f"launchers, rows: {n}") for n in (1, rows))
        content["overhead"] = overhead(one, several, rows)
        text.append(overhead_text(content["overhead"]))
    publish(options.out, "launchers", {**content, "host": facts}, "\n".join([*text, machine(facts)]))


if __name__ == "__main__":
    main()
