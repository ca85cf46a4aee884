"""Batches of one split: crops decoded straight into one array, or feature maps that were computed before."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from aunet.data.frames import DataError, FrameTable, read_crop
from aunet.facs import CROP_SIZE


class FrameDataset(Dataset[dict[str, Tensor]]):
    """Decodes a whole batch of crops into one uint8 array.

    Args:
        table: The split's frames.
        image_size: Side of the crops in pixels; a crop of another size is an error.
    """

    def __init__(self, table: FrameTable, image_size: int = CROP_SIZE) -> None:
        self.table = table
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.table)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Batch of ``frames`` (B, H, W, 3) uint8, ``labels`` (B, num_aus) int8 and ``index`` (B,).

        Raises:
            DataError: A crop cannot be read or decoded, or has another size; names the file.
        """
        frames = np.empty((len(indices), self.image_size, self.image_size, 3), np.uint8)
        for row, index in zip(frames, indices, strict=True):
            _decode(self.table.path(index), row)
        chosen = np.asarray(indices)
        return {
            "frames": torch.from_numpy(frames),
            "labels": torch.from_numpy(self.table.labels[chosen]),
            "index": torch.from_numpy(chosen),
        }


class FeatureDataset(Dataset[dict[str, Tensor]]):
    """Feature maps that a frozen backbone gave once, instead of frames.

    Args:
        table: The split's frames.
        features: (N, C, h, w) float32, usually a memory map.
    """

    def __init__(self, table: FrameTable, features: npt.NDArray[np.float32]) -> None:
        self.table = table
        self.features = features

    def __len__(self) -> int:
        return len(self.table)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Batch of ``features`` (B, C, h, w), ``labels`` (B, num_aus) int8 and ``index`` (B,)."""
        chosen = np.asarray(indices)
        return {
            "features": torch.from_numpy(self.features[chosen]),
            "labels": torch.from_numpy(self.table.labels[chosen]),
            "index": torch.from_numpy(chosen),
        }


class FrameLoader(DataLoader[dict[str, Tensor]]):
    """Gives errors of worker processes the one sentence that they have without workers."""

    # torch declares its own private iterator class here; a generator serves every caller.
    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:  # torch puts the worker's traceback before the message
            raise DataError(str(error).rpartition(f"{DataError.__name__}: ")[2].strip()) from None


class EpochSampler(Sampler[int]):
    """A permutation fixed by (seed, epoch) alone, so that a resumed run sees the order it would have seen."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng((self.seed, self.epoch)).permutation(self.length).tolist()


def channels_first(frames: Tensor) -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W), a view."""
    return frames.permute(0, 3, 1, 2)


def _decode(path: Path, out: npt.NDArray[np.uint8]) -> None:
    """Decodes a JPEG file into ``out`` (H, W, 3), RGB."""
    data = read_crop(path)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        if (height, width) == out.shape[:2]:
            # Written into the batch itself: no array per frame.
            simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
            return
    except ValueError as error:
        raise DataError(f"{path}: not a readable JPEG ({error}); remove it, or restore it") from None
    raise DataError(
        f"{path}: {width}x{height} pixels where data.image_size says {out.shape[1]}x{out.shape[0]}"
    )
