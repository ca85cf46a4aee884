"""Benchmark of prediction: ``python experiments/benchmarks/predict.py [--quick]``, or ``make bench-predict``.

Writes ``runs/bench/predict.md`` (tables) and ``runs/bench/predict.json``:

    network    from crops to probabilities, ways to run one network; each entry by batch size, then by way
      ratios         median over the rounds of stock's time over its own
      ratio_ranges   [smallest, largest]
      frames_per_s   median
      operators      of the ONNX files: kind of operator -> share of the time
    files      size in bytes, and validation macro F1 where it was compared, of each exported file
    host       machine and versions

What each way is: ``networks.py``. A part that measures something else gives its content and its text, as
``network_part`` does, and joins them in ``main``.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from common import Contestant, command, host, in_turn, machine, paired, publish, say, table

from aunet.export import LARGEST_DROP, ExportError, export
from aunet.facs import CROP_SIZE
from aunet.processes import usable_cores

TRAIN = Path(__file__).parents[1] / "train.py"
SIDES = ("stock", "eager", "channels_last", "folded", "compiled", "onnx", "int8")
ASKED = {("64", "onnx"): ">= 2.5", ("64", "int8"): ">= 4", ("1", "onnx"): ">= 4"}
SMALL = ("batch_size=4", "epochs=1", "backbone.filters=[4,4,4,4,4,4]", "logger=none")


def trained(options: argparse.Namespace) -> Path:
    """The run whose network is measured: the one named, or ``ours`` of Table 1, trained if it is missing."""
    if options.run:
        return Path(options.run)
    words, runs = ["experiment=table1/ours"], Path("runs")
    if options.source:
        words += ["data=affwild2", f"data.root={options.source}", "weights=none"]
    if options.quick or options.source:  # not the one of the table
        runs = options.out / "runs"
        words += [f"runs={runs}", *(SMALL if options.quick else ())]
    done = subprocess.run([sys.executable, str(TRAIN), *words], check=False)  # noqa: S603 - our own script
    if done.returncode:
        sys.exit(f"no network to measure: {' '.join(words)} has failed")
    return runs / "table1" / "ours" / "seed0"


def exported(run: Path, options: argparse.Namespace) -> tuple[dict[str, Path], dict[str, Any]]:
    """Files of the run's network, and what is said of them."""
    folder = options.out / "exported"
    files: dict[str, Path] = {}
    said: dict[str, Any] = {}
    # Quick mode's network knows nothing, so that any file may lose some of its F1.
    drop = 1.0 if options.quick else LARGEST_DROP
    for side in ("onnx", "int8"):
        say(f"exporting {side}")
        try:
            file = export(
                run, folder / f"{side}.onnx", int8=side == "int8", data=options.data, largest_drop=drop
            )
        except ExportError as error:
            said[side] = {"refused": str(error)}
            continue
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        facts = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
        figures = {key: value for key, value in facts.items() if key.startswith(("val_f1", "parity"))}
        files[side], said[side] = file, {"bytes": file.stat().st_size, **figures}
    return files, said


def network_part(
    run: Path, files: dict[str, Path], sides: list[str], numbers: dict[int, int], rounds: int, logs: Path
) -> tuple[dict[str, Any], str]:
    """Ways to run one network, against each other.

    Args:
        run: The run's folder.
        files: Those of the network, by side.
        sides: That are measured.
        numbers: Calls in one measurement, for each size of batch.
        rounds: How often each is measured.
        logs: Folder of what the contestants print.
    """
    seconds: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        contestants = {
            side: stack.enter_context(
                Contestant("networks.py", [side, files.get(side, run)], logs / f"predict-{side}.log")
            )
            for side in sides
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
            seconds[str(batch)] = {side: of["seconds"] for side, of in answers.items()}
    content: dict[str, Any] = {"ratios": {}, "ratio_ranges": {}, "frames_per_s": {}, "operators": {}}
    rows = []
    for batch, found in seconds.items():
        ratios = {side: paired(found["stock"], of) for side, of in found.items()}
        content["ratios"][batch] = {side: ratio.median for side, ratio in ratios.items()}
        content["ratio_ranges"][batch] = {side: [ratio.low, ratio.high] for side, ratio in ratios.items()}
        rates = {side: int(batch) / median(of) for side, of in found.items()}
        content["frames_per_s"][batch] = rates
        content["operators"][batch] = {
            side: operators(file, int(batch)) for side, file in files.items() if side in sides
        }
        for side, ratio in ratios.items():
            rows.append((f"{batch}, {side}", rates[side], *ratio, ASKED.get((batch, side), "")))
    header = ["batch, way", "frames/s", "stock's time over its own", "smallest", "largest", "asked"]
    shares = [
        (
            f"{batch}, {side}",
            ", ".join(f"{name} {share:.0%}" for name, share in found.items() if share >= 0.01),
        )
        for batch, of in content["operators"].items()
        for side, found in of.items()
    ]
    return content, table(header, rows) + "\n" + table(["batch, file", "time in operators"], shares)


def operators(file: Path, batch: int, runs: int = 5) -> dict[str, float]:
    """Kind of operator -> its share of the time, the largest first, by ONNX Runtime's own profile."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        crops = np.random.default_rng(0).integers(0, 256, (batch, CROP_SIZE, CROP_SIZE, 3), np.uint8)
        for _ in range(runs):
            session.run(None, {"frames": crops})
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return {name: duration / spent.total() for name, duration in spent.most_common()}


def main() -> None:
    """The command line."""
    parser = command("Benchmark of prediction.")
    parser.add_argument("--run", help="a finished run's folder; default: Table 1's ours, seed 0")
    parser.add_argument("--data", help="where the run's data lie now")
    parser.add_argument(
        "--sides", nargs="*", choices=SIDES, help="ways to run the network; stock is always one"
    )
    options = parser.parse_args()
    quick = options.quick
    wanted = options.sides or [side for side in SIDES if not (quick and side == "compiled")]
    if "compiled" in wanted and not (shutil.which("g++") or shutil.which("clang++")):
        say("compiled is left out: torch.compile needs g++ or clang++")
        wanted.remove("compiled")
    facts = host()
    run = trained(options)
    files, said = exported(run, options)
    sides = [
        side for side in SIDES if side == "stock" or (side in wanted and side not in set(said) - set(files))
    ]
    numbers = {1: 2, 4: 1} if quick else {1: 100, 64: 4}
    rounds = options.repeats or (2 if quick else 9)
    network, text = network_part(run, files, sides, numbers, rounds, options.out / "logs")
    content = {"network": network, "files": said, "host": facts, "run": str(run)}
    setting = f"{run}, {rounds} rounds."
    files_text = table(
        ["file", "bytes", "what was compared"],
        [
            (
                side,
                of.get("bytes", ""),
                of.get("refused") or ", ".join(f"{k} {v}" for k, v in of.items() if k != "bytes"),
            )
            for side, of in said.items()
        ],
    )
    publish(
        options.out, "predict", content, f"# Prediction\n\n{machine(facts)} {setting}\n\n{text}\n{files_text}"
    )


if __name__ == "__main__":
    main()
