"""Loaders of others, on the same frames: what a user of torchvision, webdataset or litdata writes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench_set
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from aunet.data.frames import FrameTable

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Epoch = Callable[[int], Iterator[int]]
"""Number of the epoch -> size of each of its batches, once the batch is there."""


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """What a user writes: a list of files, Pillow, and torchvision's transforms."""

    def __init__(self, table: FrameTable) -> None:
        self.samples = [(table.source.name(row), table.labels[row]) for row in range(len(table))]
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        file, labels = self.samples[index]
        return self.transform(Image.open(file).convert("RGB")), torch.as_tensor(labels)


def usual_loader(table: FrameTable, batch_size: int, workers: int, train: bool = True) -> DataLoader[Any]:
    """The loader that a user writes."""
    return DataLoader(
        Pictures(table),
        batch_size,
        shuffle=train,
        drop_last=train,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def usual(data: Path, batch_size: int, workers: int, threads: int | None = None) -> Epoch:
    """Batches (B, 3, 112, 112) of floats, as nothing else comes out of it.

    Args:
        data: Frames.
        batch_size: Frames in a batch.
        workers: Processes that decode.
        threads: Of torch in this process; None: torch's choice. torch cuts even one picture's arithmetic in
            parts for all threads, which costs more than it saves where other programs want the cores as well.
    """
    loader = usual_loader(bench_set.training_frames(data), batch_size, workers)

    def epoch(_: int) -> Iterator[int]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            for pixels, _labels in loader:
                yield len(pixels)
        finally:
            torch.set_num_threads(before)

    return epoch


def webdataset(shards: Path, batch_size: int, decoder: str) -> Epoch:
    """Webdataset's documented pipeline: shards shuffled, a shuffle buffer, decoding, batches, WebLoader.

    Args:
        shards: Folder of tar files.
        batch_size: Frames in a batch.
        decoder: "simplejpeg", or one of webdataset's own, such as "rgb8" (Pillow).
    """
    import webdataset as wds

    jpeg = wds.handle_extension("jpg", _simplejpeg) if decoder == "simplejpeg" else decoder
    labels = wds.handle_extension("labels", _labels)
    dataset = wds.WebDataset(sorted(map(str, shards.glob("*.tar"))), shardshuffle=100).shuffle(1000)
    dataset = dataset.decode(jpeg, labels).to_tuple("jpg", "labels").batched(batch_size, partial=False)
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=0)
    return lambda _: (len(pixels) for pixels, _ in loader)


def litdata(chunks: Path, batch_size: int) -> Epoch:
    """Litdata's documented pipeline: StreamingDataset and StreamingDataLoader."""
    import litdata as lit

    class Decoded(lit.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[Any, Any]:
            found = super().__getitem__(index)
            return _simplejpeg(found["jpeg"]), _labels(found["labels"])

    dataset = Decoded(str(chunks), shuffle=True)
    loader = lit.StreamingDataLoader(dataset, batch_size=batch_size, num_workers=0, drop_last=True)
    return lambda _: (len(pixels) for pixels, _ in loader)


def _simplejpeg(data: bytes) -> Any:
    return simplejpeg.decode_jpeg(data, colorspace="RGB")


def _labels(data: bytes) -> Any:
    return np.frombuffer(data, np.int8).copy()  # torch warns of arrays that cannot be written to
