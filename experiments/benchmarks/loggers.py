"""Benchmark of logging: ``python experiments/benchmarks/loggers.py [--quick]``, or ``make bench-logging``.

Writes ``runs/bench/logging.md`` (a table) and ``runs/bench/logging.json``:

    cost         logger -> share of an epoch's wall time that it adds, median of the rounds; "dynamics" is
                 looking at gradients and updates every 50 steps, as runs do
    cost_ranges  logger -> [smallest, largest]
    calls        logger -> share of an epoch's wall time that training is in its calls, median: free of the
                 machine's noise, but blind to threads and processes beside
    seconds      logger -> seconds of an epoch, median; "none" is without any
    host         machine and versions

Whole epochs of ``aunet.train``, each logger in a process of its own (see ``epochs.py``), in turn; each epoch
is compared with that of the same round without a logger, and one of small batches with dynamics with one
without them. wandb is offline. What is sent at a run's end is no part of it.
"""

import os
from contextlib import ExitStack
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import bench_set
from common import Answer, Contestant, command, host, in_turn, machine, paired, publish, table

from aunet.config import CONF

ASKED = "<= 2%"

SMALL_BATCH = 16
"""So that dynamics are looked at within an epoch of few frames as often as in a long run: every 50 steps."""


def main() -> None:
    """Measures, shows and writes."""
    options = command("Benchmark of logging.").parse_args()
    quick = options.quick
    frames, rounds = options.frames or (48 if quick else 2560), options.repeats or (2 if quick else 9)
    batch_size = 16 if quick else 64  # of seven processes, all in memory
    facts = host()
    os.environ["WANDB_MODE"] = "offline"
    data = bench_set.frames(options.folder, frames, options.source)
    loggers = ["csv", "none"] if quick else sorted(path.stem for path in CONF.glob("logger/*.yaml"))
    settings = {name: [batch_size, f"logger={name}"] for name in loggers}
    small = [min(batch_size, SMALL_BATCH), "logger=none"]
    found = epochs(
        settings | {"dynamics": small, "no dynamics": [*small, "dynamics_every=null"]},
        data,
        rounds,
        options.out,
    )
    # What is compared -> with what, and what its calls are.
    pairs = {name: ("none", "logging") for name in loggers if name != "none"}
    pairs["dynamics"] = ("no dynamics", "dynamics")
    ratios = {
        name: paired(found[name]["seconds"], found[other]["seconds"]) for name, (other, _) in pairs.items()
    }
    content: dict[str, Any] = {
        "calls": {name: _share(found[name], call) for name, (_, call) in pairs.items()},
        "cost": {name: ratio.median - 1 for name, ratio in ratios.items()},
        "cost_ranges": {name: [ratio.low - 1, ratio.high - 1] for name, ratio in ratios.items()},
        "seconds": {name: median(of["seconds"]) for name, of in found.items()},
        "host": facts,
        "setting": f"Epochs of {frames} frames in batches of {batch_size} (dynamics: {small[0]}), {rounds} "
        "rounds.",
    }
    publish(options.out, "logging", content, as_text(content))


def epochs(settings: dict[str, list[Any]], data: Path, rounds: int, out: Path) -> dict[str, Answer]:
    """Epochs with each setting (batch size, overrides), after one of each that is not counted."""
    with ExitStack() as stack:
        contestants = {}
        for name, setting in settings.items():
            log = out / "logs" / f"logging-{name.replace(' ', '-')}.log"
            contestant = Contestant("epochs.py", ["ours", data, setting[0], out, *setting[1:]], log)
            contestants[name] = stack.enter_context(contestant).ask
        for ask in contestants.values():
            ask()
        return in_turn(contestants, rounds, "loggers")


def _share(of: Answer, part: str) -> float:
    """Median share of the epochs' time."""
    return median(map(truediv, of[part], of["seconds"]))


def as_text(content: dict[str, Any]) -> str:
    """The table."""
    header = ["logger", "in its calls", "cost", "smallest", "largest", "asked", "epoch, s"]
    rows = [
        [
            name,
            f"{content['calls'][name]:.2%}",
            *(f"{share:+.2%}" for share in (cost, *content["cost_ranges"][name])),
            ASKED,
            content["seconds"][name],
        ]
        for name, cost in content["cost"].items()
    ]
    rows += [[name, "", "", "", "", "", content["seconds"][name]] for name in ("none", "no dynamics")]
    return f"# Logging\n\n{machine(content['host'])} {content['setting']}\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
