"""Benchmark of logging: ``python experiments/benchmarks/loggers.py [--quick]``, or ``make bench-logging``.

Writes ``runs/bench/logging.md`` (a table) and ``runs/bench/logging.json``:

    cost         logger -> share of an epoch's wall time that it adds, median of the rounds
    cost_ranges  logger -> [smallest, largest]
    seconds      logger -> seconds of an epoch, median; "none" is without any
    host         machine and versions

Whole epochs of ``aunet.train``, each logger in a process of its own (see ``epochs.py``), in turn; each epoch
is compared with that of the same round without a logger. wandb is offline. What is sent at a run's end is no
part of it.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import bench_set
from common import Contestant, command, host, in_turn, machine, paired, publish, table

from aunet.config import CONF

ASKED = "<= 2%"


def main() -> None:
    """Measures, shows and writes."""
    options = command("Benchmark of logging.").parse_args()
    quick = options.quick
    frames, rounds = options.frames or (48 if quick else 2560), options.repeats or (2 if quick else 9)
    batch_size = 16 if quick else 256
    facts = host()
    os.environ["WANDB_MODE"] = "offline"
    data = bench_set.frames(options.folder, frames, options.source)
    loggers = ["csv", "none"] if quick else sorted(path.stem for path in CONF.glob("logger/*.yaml"))
    found = epochs(loggers, data, batch_size, rounds, options.out)
    ratios = {name: paired(seconds, found["none"]) for name, seconds in found.items() if name != "none"}
    content: dict[str, Any] = {
        "cost": {name: ratio.median - 1 for name, ratio in ratios.items()},
        "cost_ranges": {name: [ratio.low - 1, ratio.high - 1] for name, ratio in ratios.items()},
        "seconds": {name: median(seconds) for name, seconds in found.items()},
        "host": facts,
        "setting": f"Epochs of {frames} frames in batches of {batch_size}, {rounds} rounds.",
    }
    publish(options.out, "logging", content, as_text(content))


def epochs(loggers: list[str], data: Path, batch_size: int, rounds: int, out: Path) -> dict[str, list[float]]:
    """Seconds of the epochs with each logger, after one of each that is not counted."""
    with ExitStack() as stack:
        contestants = {}
        for logger in loggers:
            arguments = ["ours", data, batch_size, out, f"logger={logger}"]
            log = out / "logs" / f"logging-{logger}.log"
            contestants[logger] = stack.enter_context(Contestant("epochs.py", arguments, log)).ask
        for ask in contestants.values():
            ask()
        answers = in_turn(contestants, rounds, "loggers")
    return {logger: of["seconds"] for logger, of in answers.items()}


def as_text(content: dict[str, Any]) -> str:
    """The table."""
    header = ["logger", "cost", "smallest", "largest", "asked", "epoch, s"]
    rows = [
        [name, *(f"{share:+.2%}" for share in (cost, *content["cost_ranges"][name])), ASKED, seconds]
        for name, seconds in content["seconds"].items()
        if (cost := content["cost"].get(name)) is not None
    ]
    rows.append(["none", "", "", "", "", content["seconds"]["none"]])
    return f"# Logging\n\n{machine(content['host'])} {content['setting']}\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
