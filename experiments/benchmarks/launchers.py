"""Benchmark of sweeps: ``python experiments/benchmarks/launchers.py [--quick]``, or ``make bench-launchers``.

Writes ``runs/bench/launchers.md`` (tables) and ``runs/bench/launchers.json``:

    table1    side -> seconds of each round: all rows of Table 1 with one epoch on a few rendered faces, one
              after the other ("serial") and side by side ("local"), in turn
    overhead  launcher -> seconds that it adds to a row, of each round: a sweep of short rows, one at a time,
              less the same sweep by Hydra's own launcher, which trains them in its own process
    host      machine and versions
"""

import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from common import Answer, command, host, in_turn, machine, paired, publish, table

from aunet.config import prepare_data
from aunet.processes import usable_cores
from aunet.results import TABLE1

TRAIN = Path(__file__).parents[1] / "train.py"

LIMIT = 0.02
"""Share of a row's time that a launcher may add."""

SIZE = ("data.prepare.videos.train=60", "data.prepare.videos.val=20", "data.prepare.videos.test=2")
SMALL = "backbone.filters=[4,4,4,4,4,4]"


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
    """Overrides of a sweep of short rows, one at a time, by each launcher that needs no service."""
    rows = ["experiment=table1/ours", "epochs=1", SMALL, f"seed={','.join(map(str, range(seeds)))}"]
    found = {
        "basic": [*rows, "hydra/launcher=basic"],
        "local": [*rows, "hydra/launcher=local", "hydra.launcher.processes=1"],
    }
    if find_spec("ray"):  # of the extra "ray"
        alone = f"hydra.launcher.ray.remote.num_cpus={usable_cores()}"
        found["ray"] = [*rows, "hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0", alone]
    return found


def main() -> None:
    """Measures, shows and writes."""
    options = command("launchers").parse_args()
    rounds, seeds = (1, 1) if options.quick else (options.repeats or 3, 4)
    if options.source:
        data = ["data=affwild2", f"data.root={options.source}", "weights=none", "batch_size=4"]
    else:
        data = ["data=rendered", f"data.root={options.folder / 'launchers'}", *SIZE]
        prepare_data(data)

    def measured(sides: dict[str, list[str]], what: str) -> dict[str, list[float]]:
        asked = {name: lambda words=words: sweep(data, words) for name, words in sides.items()}
        return {name: found["seconds"] for name, found in in_turn(asked, rounds, what).items()}

    facts = host()
    table1 = measured(table1_sides(options.quick), "Table 1")
    short = measured(launchers(seeds), "launchers")
    faster = paired(table1["serial"], table1["local"])
    overhead = {
        name: [(seconds - basic) / seeds for seconds, basic in zip(found, short["basic"], strict=True)]
        for name, found in short.items()
        if name != "basic"
    }
    text = "\n".join(
        [
            table(["Table 1, one epoch", "seconds"], [[side, median(s)] for side, s in table1.items()]),
            f"One after the other takes {faster.median:.2f} times as long as side by side "
            f"({faster.low:.2f} to {faster.high:.2f} in {rounds} rounds).\n",
            table(
                ["launcher", "adds to a row (s)", "which is 2% of a row of (s)"],
                [[name, median(found), median(found) / LIMIT] for name, found in overhead.items()],
            ),
            machine(facts),
        ]
    )
    publish(options.out, "launchers", {"table1": table1, "overhead": overhead, "host": facts}, text)


if __name__ == "__main__":
    main()
