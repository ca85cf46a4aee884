"""One epoch of batches from each loader: ``loaders.py SIDE FRAMES BATCH_SIZE``, a contestant of ``data.py``.

SIDE is "ours", in a process set up as ``aunet train`` sets up its own, or "stock", as Python starts.
All give shuffled batches and leave out a last one that is not full. The first epoch of each loader is not
measured: it starts worker processes and threads, and its time to the first batch is reported beside.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import bench_set
import torch
from common import Answer, serve
from others import MEAN, STD, Epoch, litdata, usual, webdataset
from torch import Tensor, nn

from aunet.data.batches import FrameDataset
from aunet.data.device import decode_frames
from aunet.data.loader import FrameLoader, channels_first
from aunet.facs import CROP_SIZE
from aunet.host import configure_host
from aunet.network import AUNet, linear_classifier

_TICK = os.sysconf("SC_CLK_TCK")


def ours(data: Path, batch_size: int, *overrides: str) -> Epoch:
    """Our loader as the configuration builds it: batches (B, 112, 112, 3) uint8."""
    loader = _loader(data, batch_size, *overrides)
    return lambda epoch: (len(batch["frames"]) for batch in _epoch(loader, epoch))


def ours_as_floats(data: Path, batch_size: int) -> Epoch:
    """Batches as the first layer gets them: with the network's own conversion."""
    loader, network = _loader(data, batch_size), AUNet(_Pixels(), _Mean, linear_classifier, 12).eval()

    def epoch(number: int) -> Iterator[int]:
        with torch.no_grad():
            for batch in _epoch(loader, number):
                yield len(network.features(channels_first(batch["frames"])))

    return epoch


def ours_decoded_by_torchvision(data: Path, batch_size: int) -> Epoch:
    """The same loop, the files of each batch decoded by torchvision's ``decode_jpeg`` for lists."""
    module = bench_set.module_of(data, f"batch_size={batch_size}")
    module.setup("fit")
    batches = module.train_dataloader().batches
    dataset = FrameDataset(module.tables["train"], encoded=True)
    loader, cpu = FrameLoader(dataset, batches), torch.device("cpu")

    def epoch(number: int) -> Iterator[int]:
        for batch in _epoch(loader, number):
            yield len(decode_frames(batch["encoded"], batch["ends"], cpu, CROP_SIZE))

    return epoch


def _loader(data: Path, batch_size: int, *overrides: str) -> FrameLoader:
    module = bench_set.module_of(data, f"batch_size={batch_size}", *overrides)
    module.setup("fit")
    return module.train_dataloader()


def _epoch(loader: FrameLoader, number: int) -> Iterator[dict[str, Tensor]]:
    loader.batches.set_epoch(number)  # as Lightning does
    yield from loader


class _Pixels(nn.Module):
    """A backbone that leaves pixels as they are, so that nothing but AUNet's own work is measured."""

    num_features = 3
    mean, std = tuple(255 * value for value in MEAN), tuple(255 * value for value in STD)
    frozen = pretrained = False

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels


class _Mean(nn.Module):
    def __init__(self, in_features: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.num_features = in_features

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def contestants(side: str, data: Path, batch_size: int) -> dict[str, Callable[[], Epoch]]:
    """Name -> makes the loader, of those whose package is there."""
    if side == "ours":
        packed, decoded = bench_set.store_place(data), bench_set.store_place(data, decoded=True)
        return {
            "packed": lambda: ours(packed, batch_size),
            "packed_1_thread": lambda: ours(packed, batch_size, "data.threads=1"),
            "packed_2_workers": lambda: ours(packed, batch_size, "data.workers=2"),
            "packed_float": lambda: ours_as_floats(packed, batch_size),
            "decoded": lambda: ours(decoded, batch_size),
            "files": lambda: ours(data, batch_size),
            "torchvision_decoder": lambda: ours_decoded_by_torchvision(packed, batch_size),
        }
    found = {
        "usual_0_workers": lambda: usual(data, batch_size, 0),
        "usual_0_workers_1_thread": lambda: usual(data, batch_size, 0, threads=1),
        "usual_2_workers": lambda: usual(data, batch_size, 2),
    }
    if find_spec("webdataset"):
        shards = bench_set.tar_shards(data)
        found["webdataset"] = lambda: webdataset(shards, batch_size, "simplejpeg")
        found["webdataset_pil"] = lambda: webdataset(shards, batch_size, "rgb8")
    if find_spec("litdata"):
        chunks = bench_set.litdata_chunks(data)
        found["litdata"] = lambda: litdata(chunks, batch_size)
    return found


def cpu_seconds() -> float:
    """CPU time of this process with all its threads, and of its workers (to a hundredth of a second)."""
    workers = 0
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        workers += int(stat[11]) + int(stat[12])
    return time.process_time() + workers / _TICK


def main(side: str, data: Path, batch_size: int) -> None:
    """Measures one epoch of the loader that is asked for; {"name": null} asks for their names."""
    if side == "ours":
        configure_host()
    loaders, started, epochs = contestants(side, data, batch_size), {}, {}

    def measure(name: str | None) -> Answer:
        if name is None:
            return {"names": list(loaders)}
        if name not in started:
            begin = time.perf_counter()
            started[name] = loaders[name]()
            for number, _ in enumerate(started[name](0)):
                if not number:
                    first = time.perf_counter() - begin
            epochs[name] = 0
            return {"start_seconds": first}
        epochs[name] += 1
        begin, cpu = time.perf_counter(), cpu_seconds()
        frames = sum(started[name](epochs[name]))
        return {"frames": frames, "seconds": time.perf_counter() - begin, "cpu": cpu_seconds() - cpu}

    serve(measure)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
