"""Benchmark of prediction: ``python experiments/benchmarks/predict.py [--quick]``, or ``make bench-predict``.

Writes ``runs/bench/predict.md`` (tables) and ``runs/bench/predict.json``:

    network    from crops to probabilities, ways to run one network; each entry by batch size, then by way
      ratios         median over the rounds of stock's time over its own
      ratio_ranges   [smallest, largest]
      frames_per_s   median
      operators      with --profile: seconds of a call in each kind of operator
    video      how often faces are looked for -> stage -> seconds of a frame, of each round
    files      size in bytes, and what was compared, of each exported file, or why it was refused
    run        the run's folder
    host       machine and versions

What each way is: ``networks.py``; each stage: ``video.py``.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import onnx
import video
from common import Answer, Contestant, command, host, in_turn, machine, paired, publish, say, table
from networks import FILES

from aunet.export import LARGEST_DROP, ExportError, export

TRAIN = Path(__file__).parents[1] / "train.py"
SIDES = ("stock", "eager", "channels_last", "folded", "compiled", *FILES)
ASKED = {("64", "onnx"): ">= 2.5", ("64", "int8"): ">= 4", ("1", "onnx"): ">= 4"}
SMALL = ("batch_size=4", "epochs=1", "backbone.filters=[4,4,4,4,4,4]", "logger=none")
SHOWN = 6
"""Operators of each way that the table names."""


def trained(options: argparse.Namespace) -> Path:
    """The run whose network is measured: the one named, or ``ours`` of Table 1, trained if it is missing."""
    if options.run:
        return options.run
    words, runs = ["experiment=table1/ours"], Path("runs")
    if options.source:
        words += ["data=affwild2", f"data.root={options.source}", "weights=none"]
    if options.quick or options.source:  # not the one of the table
        runs = options.out / "runs"
        words += [f"runs={runs}", *(SMALL if options.quick else ())]
    done = subprocess.run([sys.executable, str(TRAIN), *words], stdout=sys.stderr, check=False)  # noqa: S603 - our own script
    if done.returncode:
        sys.exit(f"no network to measure: {' '.join(words)} has failed")
    return runs / "table1" / "ours" / "seed0"


def exported(run: Path, sides: Sequence[str], options: argparse.Namespace) -> tuple[dict[str, Path], Answer]:
    """Files of the run's network, by side, and what is said of them."""
    files: dict[str, Path] = {}
    said: Answer = {}
    # Quick mode's network knows nothing, so that any file may lose some of its F1.
    drop = 1.0 if options.quick else LARGEST_DROP
    for side in (side for side in FILES if side in sides):
        say(f"exporting {side}")
        out = options.out / "exported" / f"{side}.onnx"
        try:
            file = export(run, out, int8=side == "int8", data=options.data, largest_drop=drop)
        except ExportError as error:
            said[side] = {"refused": str(error)}
            continue
        facts = {entry.key: json.loads(entry.value) for entry in onnx.load(file).metadata_props}
        figures = {key: value for key, value in facts.items() if key.startswith(("val_f1_", "parity"))}
        files[side], said[side] = file, {"bytes": file.stat().st_size, **figures}
    return files, said


def measured(
    places: Mapping[str, Path], numbers: Mapping[int, int], rounds: int, profiled: bool, logs: Path
) -> Answer:
    """Ways to run one network, against each other.

    Args:
        places: Of each side's network: the run's folder, or a file.
        numbers: Calls in one measurement, for each size of batch.
        rounds: How often each is measured.
        profiled: Whether operators are asked for, too.
        logs: Folder of what the contestants print.

    Returns:
        ``network`` of what is written.
    """
    found: Answer = {"ratios": {}, "ratio_ranges": {}, "frames_per_s": {}, "operators": {}}
    with ExitStack() as stack:
        contestants = {
            side: stack.enter_context(Contestant("networks.py", [side, place], logs / f"predict-{side}.log"))
            for side, place in places.items()
        }
        for batch, number in numbers.items():
            asked = {
                side: partial(contestant.ask, batch=batch, number=number)
                for side, contestant in contestants.items()
            }
            for side, ask in asked.items():
                say(f"batches of {batch}: {side} warms up")
                ask()
            answers = in_turn(asked, rounds, f"batches of {batch}")
            seconds = {side: answer["seconds"] for side, answer in answers.items()}
            ratios = {side: paired(seconds["stock"], own) for side, own in seconds.items()}
            of_batch = {
                "ratios": {side: ratio.median for side, ratio in ratios.items()},
                "ratio_ranges": {side: [ratio.low, ratio.high] for side, ratio in ratios.items()},
                "frames_per_s": {side: batch / median(own) for side, own in seconds.items()},
                "operators": {side: ask(operators=True) for side, ask in asked.items()} if profiled else {},
            }
            for key, values in of_batch.items():
                found[key][str(batch)] = values
    return found


def as_text(network: Answer) -> str:
    """The tables of what was measured."""
    rows = [
        (
            f"{batch}, {side}",
            network["frames_per_s"][batch][side],
            ratio,
            *network["ratio_ranges"][batch][side],
            ASKED.get((batch, side), ""),
        )
        for batch, ratios in network["ratios"].items()
        for side, ratio in ratios.items()
    ]
    text = table(
        ["batch, way", "frames/s", "stock's time over its own", "smallest", "largest", "asked"], rows
    )
    profiles = [
        (f"{batch}, {side}", _share(spent))
        for batch, sides in network["operators"].items()
        for side, spent in sides.items()
    ]
    return f"{text}\n{table(['batch, way', 'ms of a call in operators'], profiles)}" if profiles else text


def _share(spent: Mapping[str, float]) -> str:
    """The operators that take most of the time."""
    most = sorted(spent.items(), key=lambda item: -item[1])[:SHOWN]
    whole = sum(spent.values())
    return ", ".join(f"{name} {1000 * seconds:.3g} ({seconds / whole:.0%})" for name, seconds in most)


def main() -> None:
    """Measures, shows and writes."""
    parser = command("Benchmark of prediction.")
    parser.add_argument("--run", type=Path, help="a finished run's folder; default: Table 1's ours, seed 0")
    parser.add_argument("--data", help="where the run's data lie now")
    parser.add_argument(
        "--sides", nargs="*", choices=SIDES, help="ways to run the network; stock is always one"
    )
    parser.add_argument("--profile", action="store_true", help="show in which operators the time is spent")
    options = parser.parse_args()
    quick = options.quick
    wanted = options.sides or [side for side in SIDES if not (quick and side == "compiled")]
    if "compiled" in wanted and not (shutil.which("g++") or shutil.which("clang++")):
        say("compiled is left out: torch.compile needs g++ or clang++")
        wanted.remove("compiled")
    facts = host()
    run = trained(options)
    files, said = exported(run, wanted, options)
    places: dict[str, Path] = {"stock": run}
    places |= {side: run for side in wanted if side not in FILES} | files
    logs = options.out / "logs"
    numbers = {1: 2, 4: 1} if quick else {1: 100, 64: 4}
    rounds = options.repeats or (2 if quick else 9)
    network = measured(places, numbers, rounds, options.profile, logs)
    film = video.scene(options.folder, 4 if quick else 96)
    of_video = video.measured(run, film, options.repeats or (1 if quick else 3), logs / "video.log")
    content = {"network": network, "video": of_video, "files": said, "run": str(run), "host": facts}
    of_files = table(
        ["file", "what was compared"],
        [(side, ", ".join(f"{key} {value}" for key, value in of.items())) for side, of in said.items()],
    )
    setting = f"{machine(facts)} {run}, {rounds} rounds."
    tables = f"{as_text(network)}\n{video.as_text(of_video)}\n{of_files}"
    publish(options.out, "predict", content, f"# Prediction\n\n{setting}\n\n{tables}")


if __name__ == "__main__":
    main()
