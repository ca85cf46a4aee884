"""Benchmark of training: ``python experiments/benchmarks/training.py [--quick]``, or ``make bench-train``.

Writes ``runs/bench/train.md`` (tables) and ``runs/bench/train.json``:

    ratios        name -> median of the rounds' ratios
                  step/<backbone>     training step: stock's time over ours, each backbone of Table 1
                  epoch/ours          a whole epoch from files: stock Lightning's time over aunet.train's
                  overhead/bare_loop  a whole epoch from a packed store: aunet.train's time over a bare loop's
    ratio_ranges  name -> [smallest, largest]
    seconds       name -> side -> median
    host          machine and versions

What each side is: ``steps.py`` and ``epochs.py``.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import bench_set
from common import Contestant, Ratio, command, host, in_turn, machine, paired, publish, table

ROWS = {
    "convnet": "ours",
    "resnet50": "resnet50",
    "inception_v3": "inception_v3",
    "efficientnet": "efficientnet",
    "efficientnet_lite0": "efficientnet_lite0",
    "vgg16": "baseline",
}
"""Backbone -> row of Table 1."""

ASKED = {"step/convnet": ">= 1.5", "epoch/ours": ">= 1.6", "overhead/bare_loop": "<= 1.03"}

Seconds = dict[str, dict[str, list[float]]]
"""Name -> side -> seconds of each round."""


def steps(backbones: list[str], batch_size: int | None, rounds: int, logs: Path) -> Seconds:
    """Training steps of both sides: 256 frames for our network, 32 for the large ones."""
    found = {}
    for backbone in backbones:
        size = batch_size or (256 if backbone == "convnet" else 32)
        name, row = f"step/{backbone}", ROWS[backbone]
        number = 1 if backbone == "convnet" else 2
        found[name] = _in_turn(
            name,
            {side: ("steps.py", [side, row, size]) for side in ("ours", "stock")},
            rounds,
            logs,
            number=number,
        )
    return found


def epochs(data: Path, batch_size: int, rounds: int, out: Path) -> Seconds:
    """Whole epochs: from files against stock Lightning, and from a packed store against a bare loop."""
    packed = bench_set.store(data)
    bench_set.store(data, decoded=True)  # of which the bare loop reads its frames
    pairs = {"epoch/ours": (data, "stock"), "overhead/bare_loop": (packed, "bare")}
    found = {}
    for name, (place, other) in pairs.items():
        sides: dict[str, tuple[str, list[Any]]] = {
            "ours": ("epochs.py", ["ours", place, batch_size, out]),
            other: ("epochs.py", [other, data, batch_size, out]),
        }
        found[name] = _in_turn(name, sides, rounds, out / "logs")
    return found


def _in_turn(
    name: str, sides: dict[str, tuple[str, list[Any]]], rounds: int, logs: Path, **question: Any
) -> dict[str, list[float]]:
    """Seconds of both sides, after one measurement of each that is not counted."""
    with ExitStack() as stack:
        contestants = {}
        for side, (script, arguments) in sides.items():
            log = logs / f"{name.replace('/', '-')}-{side}.log"
            contestants[side] = partial(
                stack.enter_context(Contestant(script, arguments, log)).ask, **question
            )
        for ask in contestants.values():
            ask()
        answers = in_turn(contestants, rounds, name)
    return {side: of["seconds"] for side, of in answers.items()}


def ratio(name: str, seconds: dict[str, list[float]]) -> Ratio:
    """How much faster we are, or for ``overhead/`` how much slower."""
    other = next(side for side in seconds if side != "ours")
    over, under = ("ours", other) if name.startswith("overhead/") else (other, "ours")
    return paired(seconds[over], seconds[under])


def main() -> None:
    """The command line."""
    parser = command("Benchmark of training.")
    parser.add_argument("--backbones", nargs="*", choices=list(ROWS), help="whose steps are timed")
    parser.add_argument("--no-epochs", action="store_true", help="steps only")
    options = parser.parse_args()
    quick = options.quick
    frames, rounds = options.frames or (48 if quick else 2560), options.repeats or (2 if quick else 5)
    backbones = (["convnet"] if quick else list(ROWS)) if options.backbones is None else options.backbones
    batch_size = 16 if quick else 256
    facts = host()
    found = steps(backbones, 8 if quick else None, rounds, options.out / "logs")
    if not options.no_epochs:
        data = bench_set.frames(options.folder, frames, options.source)
        found |= epochs(data, batch_size, rounds, options.out)
    ratios = {name: ratio(name, seconds) for name, seconds in found.items()}
    content: dict[str, Any] = {
        "ratios": {name: value.median for name, value in ratios.items()},
        "ratio_ranges": {name: [value.low, value.high] for name, value in ratios.items()},
        "seconds": {name: {side: median(v) for side, v in of.items()} for name, of in found.items()},
        "host": facts,
        "setting": f"Epochs of {frames} frames in batches of {batch_size}, {rounds} rounds.",
    }
    publish(options.out, "train", content, as_text(content))


def as_text(content: dict[str, Any]) -> str:
    """The table."""
    rows = []
    for name, value in content["ratios"].items():
        seconds = dict(content["seconds"][name])
        ours = seconds.pop("ours")
        ((side, other),) = seconds.items()
        asked = ASKED.get(name, "")
        rows.append((name, value, *content["ratio_ranges"][name], asked, ours, f"{other:.4g} ({side})"))
    header = ["ratio", "median", "smallest", "largest", "asked", "ours, s", "other, s"]
    return f"# Training\n\n{machine(content['host'])} {content['setting']}\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
