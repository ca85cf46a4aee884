"""Benchmark of the data engine: ``python experiments/benchmarks/data.py [--quick]``, or ``make bench-data``.

Writes ``runs/bench/data.md`` (tables) and ``runs/bench/data.json``:

    ratios           name -> median of the rounds' ratios: frames/s of x over those of y in "x_vs_y", of our
                     packed store in "wall_vs_y"; its CPU time per frame over y's in "cpu_vs_y"
    ratio_ranges     name -> [smallest, largest]
    loaders          name -> medians: frames_per_s; cpu_us per frame; start_s to a loader's very first batch,
                     worker processes started, which the other numbers leave out
    scale            frames -> open_s, first_batch_s (opening included), rss_mb added, frames_per_s, and more
    data_wait_share  of the training part of an epoch of ``ours`` by aunet.train, waited for batches: the
                     larger of two batch sizes
    data_wait        batch size -> that share
    bytes_per_frame  format -> bytes on disk
    host             machine and versions
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import bench_set
import scale
from common import Answer, Contestant, Ratio, command, host, in_turn, machine, paired, publish, say, table

SIZES = (10_000, 100_000, 1_000_000, 2_600_000)

SPEED = {
    "packed_vs_usual_0_workers": ("packed", "usual_0_workers", ">= 6"),
    "packed_vs_usual_0_workers_1_thread": ("packed", "usual_0_workers_1_thread", ""),
    "packed_vs_usual_2_workers": ("packed", "usual_2_workers", ">= 4"),
    "packed_2_workers_vs_usual_2_workers": ("packed_2_workers", "usual_2_workers", ""),
    "packed_float_vs_usual_0_workers": ("packed_float", "usual_0_workers", ">= 5"),
    "packed_float_vs_usual_0_workers_1_thread": ("packed_float", "usual_0_workers_1_thread", ""),
    "decoded_vs_usual_0_workers": ("decoded", "usual_0_workers", ">= 40"),
    "files_vs_usual_0_workers": ("files", "usual_0_workers", ""),
    "packed_vs_torchvision_decoder": ("packed", "torchvision_decoder", ""),
    "wall_vs_webdataset": ("packed", "webdataset", ""),
    "wall_vs_webdataset_pil": ("packed", "webdataset_pil", ""),
    "wall_vs_litdata": ("packed", "litdata", ""),
}
"""Ratios of frames/s: name -> (loader, reference, what is asked)."""

CPU = {
    "cpu_vs_webdataset": ("packed", "webdataset", "<= 0.45"),
    "cpu_vs_webdataset_pil": ("packed", "webdataset_pil", ""),
    "cpu_vs_litdata": ("packed", "litdata", "<= 0.65"),
}
"""Ratios of CPU time per frame."""


def loaders(data: Path, batch_size: int, rounds: int, logs: Path) -> dict[str, Answer]:
    """Frames/s, CPU time per frame and start-up of every loader: name -> key -> values of all rounds."""
    with ExitStack() as stack:
        contestants: dict[str, Callable[[], Answer]] = {}
        starts: dict[str, float] = {}
        processes = [
            stack.enter_context(
                Contestant("loaders.py", [side, data, batch_size], logs / f"loaders-{side}.log")
            )
            for side in ("ours", "stock")
        ]
        for process in processes:
            for name in process.ask(name=None)["names"]:
                starts[name] = process.ask(name=name)["start_seconds"]
                say(f"loaders: {name} warm")
                contestants[name] = partial(process.ask, name=name)
        found = in_turn(contestants, rounds, "loaders")
    return {
        name: {
            "frames_per_s": [a / b for a, b in zip(of["frames"], of["seconds"], strict=True)],
            "cpu_us": [1e6 * a / b for a, b in zip(of["cpu"], of["frames"], strict=True)],
            "start_s": [starts[name]],
        }
        for name, of in found.items()
    }


def ratios(found: dict[str, Answer]) -> dict[str, Ratio]:
    """All ratios whose loaders ran."""
    return {
        name: paired(found[over][key], found[under][key])
        for key, asked in (("frames_per_s", SPEED), ("cpu_us", CPU))
        for name, (over, under, _) in asked.items()
        if over in found and under in found
    }


def against_size(
    store: Path, sizes: Sequence[int], batch_size: int, batches: int, rounds: int, opens: int, logs: Path
) -> dict[str, Answer]:
    """Opening and reading simulated stores: opened by fresh processes, the last of which read in turn."""
    opened: dict[str, list[Answer]] = {str(size): [] for size in sizes}
    for number in range(opens):
        with ExitStack() as stack:
            processes = {}
            for size in sizes:
                simulated, name = scale.simulated(store, size), str(size)
                process = Contestant("scale.py", [simulated, batch_size], logs / f"scale-{size}.log")
                processes[name] = stack.enter_context(process)
                opened[name].append(process.ask(number=batches))
                say(f"scale: {size} frames opened")
            if number == opens - 1:
                asked = {name: partial(p.ask, number=batches) for name, p in processes.items()}
                speeds = {name: of["frames_per_s"] for name, of in in_turn(asked, rounds, "scale").items()}
    smallest = speeds[str(min(sizes))]
    return {
        name: {
            **{key: median(answer[key] for answer in answers) for key in answers[0]},
            "frames_per_s": median(speeds[name]),
            "frames_per_s_vs_smallest": paired(speeds[name], smallest).median,
        }
        for name, answers in opened.items()
    }


def data_wait(data: Path, batch_sizes: Sequence[int], epochs: int, out: Path) -> dict[str, float]:
    """Share of the training part of an epoch in which Lightning waits for the loader; from files."""
    shares = {}
    for batch_size in batch_sizes:
        log = out / "logs" / f"wait-{batch_size}.log"
        with Contestant("epochs.py", ["ours", data, batch_size, out], log) as process:
            process.ask()  # warm
            answers = [process.ask() for _ in range(epochs)]
        shares[str(batch_size)] = median(answer["waiting"] / answer["training"] for answer in answers)
        say(f"data wait: batch {batch_size} done")
    return shares


def disk(data: Path) -> dict[str, float]:
    """Bytes on disk per frame of every format; tar and litdata hold the training frames only."""
    tables = bench_set.module_of(data).read(root=data)
    everything = sum(map(len, tables.values()))
    train = len(tables["train"])
    places = {
        "files": (data, everything),
        "packed": (bench_set.store(data), everything),
        "decoded": (bench_set.store(data, decoded=True), everything),
        "tar": (bench_set.tar_shards(data), train),
        "litdata": (bench_set.optional(bench_set.litdata_chunks, data), train),
    }
    return {name: bench_set.bytes_on_disk(path) / n for name, (path, n) in places.items() if path}


def as_text(content: Answer) -> str:
    """The tables."""
    asked = {name: goal for name, (_, _, goal) in {**SPEED, **CPU}.items()}
    ranges = content["ratio_ranges"]
    return "\n".join(
        [
            f"# Data engine\n\n{machine(content['host'])} {content['setting']}\n",
            table(
                ["ratio", "median", "smallest", "largest", "asked"],
                [(name, value, *ranges[name], asked[name]) for name, value in content["ratios"].items()],
            ),
            table(
                ["loader", "frames/s", "CPU us/frame", "to the first batch, s"],
                [
                    (name, round(of["frames_per_s"]), round(of["cpu_us"]), of["start_s"])
                    for name, of in content["loaders"].items()
                ],
            ),
            table(
                ["frames", "open, s", "first batch, s", "memory added, MB", "frames/s", "of the smallest"],
                [
                    (
                        name,
                        *(of[key] for key in ("open_s", "first_batch_s", "rss_mb")),
                        round(of["frames_per_s"]),
                        of["frames_per_s_vs_smallest"],
                    )
                    for name, of in content["scale"].items()
                ],
            ),
            table(
                ["format", "bytes on disk per frame"],
                [(name, round(size)) for name, size in content["bytes_per_frame"].items()],
            ),
            table(
                ["batch size of `ours`", "waiting for data, of training time"],
                [(size, f"{share:.2%}") for size, share in content["data_wait"].items()],
            ),
        ]
    )


def main() -> None:
    """The command line."""
    parser = command("Benchmark of the data engine.")
    parser.add_argument("--only", choices=["loaders", "scale", "wait"], help="a part; other keys stay empty")
    options = parser.parse_args()
    quick = options.quick
    frames, rounds = options.frames or (200 if quick else 10_000), options.repeats or (2 if quick else 7)
    batch_size, logs = 64 if quick else 256, options.out / "logs"
    facts = host()
    wanted = {options.only} if options.only else {"loaders", "scale", "wait"}
    data = bench_set.frames(options.folder, frames, options.source)
    sizes_on_disk = disk(data)  # first: what it measures is written here
    found: dict[str, Answer] = {}
    sizes: dict[str, Answer] = {}
    waits: dict[str, float] = {}
    if "loaders" in wanted:
        found = loaders(data, batch_size, rounds, logs)
    if "scale" in wanted:
        counts = (1000, 20_000) if quick else SIZES
        batches, opens = (5, 1) if quick else (50, 3)
        sizes = against_size(bench_set.store(data), counts, batch_size, batches, rounds, opens, logs)
    if "wait" in wanted:
        trained = bench_set.frames(options.folder, 48 if quick else 2560, options.source)
        waits = data_wait(trained, (16,) if quick else (16, 256), 1 if quick else 3, options.out)
    compared = ratios(found)
    content: dict[str, Any] = {
        "ratios": {name: ratio.median for name, ratio in compared.items()},
        "ratio_ranges": {name: [ratio.low, ratio.high] for name, ratio in compared.items()},
        "loaders": {name: {key: median(v) for key, v in of.items()} for name, of in found.items()},
        "scale": sizes,
        "data_wait_share": max(waits.values(), default=None),
        "data_wait": waits,
        "bytes_per_frame": sizes_on_disk,
        "host": facts,
        "setting": f"Epochs of {frames} frames in batches of {batch_size}, {rounds} rounds.",
    }
    publish(options.out, "data", content, as_text(content))


if __name__ == "__main__":
    main()
