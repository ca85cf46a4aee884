"""A trained network as a function of frames: ``networks.py SIDE PLACE``, a contestant of ``predict.py``.

A call takes a batch of crops as bytes and gives probabilities. PLACE is a run's folder, for the last two
sides a file of ``aunet export``.

    stock          the run's network, NCHW, in a process as Python starts it
    eager          the same in a process that is set up as aunet sets up its own, as all that follow
    channels_last  the same network in that order of memory
    folded         batch normalisation and the pixels' scale in the convolutions, channels_last
    compiled       that by torch.compile, for each size of batch by itself
    onnx, int8     the file, run by ONNX Runtime
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Answer, serve
from torch.profiler import ProfilerActivity, profile

from aunet.data.loader import channels_first
from aunet.export.detector import Detector
from aunet.facs import CROP_SIZE
from aunet.host import configure_host
from aunet.trained import load

FILES = ("onnx", "int8")
"""Sides that run a file."""

Ready = Callable[[torch.Tensor], Any]
"""Crops (B, H, W, 3) uint8 -> what a side wants to be given; not timed."""


def prepared(side: str, place: Path) -> tuple[Ready, Callable[[Any], object]]:
    """How a side wants its crops, and what it does with them."""
    if side in FILES:
        from aunet.export.onnx_file import opened

        return torch.Tensor.numpy, opened(place)
    network = load(place).network
    if side in ("folded", "compiled"):
        detector = Detector(network, CROP_SIZE)
        return lambda crops: crops, torch.compile(detector, dynamic=False) if side == "compiled" else detector
    if side == "channels_last":
        network.to(memory_format=torch.channels_last)
        return channels_first, lambda frames: network(frames).sigmoid()
    return lambda crops: channels_first(crops).contiguous(), lambda frames: network(frames).sigmoid()


def torch_operators(call: Callable[[Any], object], given: Any, number: int) -> dict[str, float]:
    """Operator, or compiled kernel, -> seconds of a call, by torch's profile."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(number):
            call(given)
    return {event.key: event.self_cpu_time_total / 1e6 / number for event in recorded.key_averages()}


def file_operators(file: Path, given: Any, number: int) -> dict[str, float]:
    """Kind of operator -> seconds of a call, by ONNX Runtime's profile."""
    from aunet.export.onnx_file import INPUT, session

    with tempfile.TemporaryDirectory() as folder:
        profiled = session(file, profile=Path(folder) / "profile")
        for _ in range(number):
            profiled.run(None, {INPUT: given})
        events = json.loads(Path(profiled.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return {name: microseconds / 1e6 / number for name, microseconds in spent.items()}


def main(side: str, place: Path) -> None:
    """Answers with the seconds of a call, on average over the number asked for, or with where they go."""
    if side != "stock":
        configure_host()
    ready, call = prepared(side, place)

    def measure(batch: int, number: int, operators: bool = False) -> Answer:
        crops = torch.randint(0, 256, (batch, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8)
        given = ready(crops)
        with torch.inference_mode():
            if operators:
                of_file = side in FILES
                return (
                    file_operators(place, given, number) if of_file else torch_operators(call, given, number)
                )
            begin = time.perf_counter()
            for _ in range(number):
                call(given)
        return {"seconds": (time.perf_counter() - begin) / number}

    serve(measure)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
