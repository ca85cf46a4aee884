"""Batches of one split: pictures decoded straight into one array, or feature maps computed before."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aunet.data.faults import DataError, OnBad, PictureError
from aunet.data.frames import FrameTable
from aunet.data.pictures import check_jpeg
from aunet.facs import CROP_SIZE

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]
Batch = dict[str, Tensor]


class FrameDataset(Dataset[Batch]):
    """Decodes a whole batch of pictures into one uint8 array.

    Args:
        table: The split's frames.
        image_size: Side of the pictures in pixels.
        threads: Threads that decode a batch; the decoder releases the GIL.
        resize: Resample pictures of another size; otherwise they are errors.
        on_bad: "error" raises at a picture that cannot be used; "skip" puts a copy of another picture of the
            batch in its place with all labels unknown, so that it counts neither in the loss nor in any
            metric.
        encoded: Leave JPEG files as they are, for decoding on the device
            (``aunet.data.device.decode_frames``).
    """

    def __init__(
        self,
        table: FrameTable,
        image_size: int = CROP_SIZE,
        threads: int = 1,
        resize: bool = False,
        on_bad: OnBad = "error",
        encoded: bool = False,
    ) -> None:
        shape = (image_size, image_size, 3)
        if table.source.raw not in (None, shape):
            raise DataError(f"the store holds pixels of {table.source.raw}, data.image_size asks for {shape}")
        self.table = table
        self.shape = shape
        self.threads = threads
        self.resize = resize
        self.on_bad = on_bad
        self.encoded = encoded and table.source.raw is None
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def __getstate__(self) -> dict[str, Any]:  # for workers that are spawned: threads cannot be sent
        return self.__dict__ | {"_pool": None}

    def __getitems__(self, indices: Sequence[int] | Rows) -> Batch:
        """One batch.

        Returns:
            ``frames`` (B, H, W, 3) uint8, or ``encoded`` (bytes,) uint8 with ``ends`` (B + 1,); ``labels``
            (B, num_aus) int8; ``index`` (B,) rows of the table; ``skipped``, rows that could not be used.

        Raises:
            DataError: A picture cannot be used, and ``on_bad`` is not "skip"; names the file.
        """
        chosen = np.asarray(indices)
        labels = self.table.labels[chosen]
        batch, errors = self._files(chosen) if self.encoded else self._pixels(chosen)
        bad = sorted(errors)
        if bad:
            self._replace(batch, labels, bad, errors[bad[0]])
        return {
            **batch,
            "labels": torch.from_numpy(labels),
            "index": torch.from_numpy(chosen),
            "skipped": torch.from_numpy(chosen[bad]),
        }

    def _pixels(self, chosen: Rows) -> tuple[Batch, dict[int, PictureError]]:
        frames = np.empty((len(chosen), *self.shape), np.uint8)
        source, errors, indices = self.table.source, {}, chosen.tolist()

        def fill(part: range) -> None:
            for row in part:
                try:
                    source.fill(indices[row], frames[row], self.resize)
                except PictureError as error:
                    errors[row] = error

        self._share_out(len(chosen), fill)
        return {"frames": torch.from_numpy(frames)}, errors

    def _files(self, chosen: Rows) -> tuple[Batch, dict[int, PictureError]]:
        files, errors = [b""] * len(chosen), {}
        source = self.table.source

        def fill(part: range) -> None:
            for row in part:
                index = int(chosen[row])
                try:
                    files[row] = source.read(index)
                    check_jpeg(files[row], self.shape[:2], source.name(index))
                except PictureError as error:
                    errors[row] = error

        self._share_out(len(chosen), fill)
        black = simplejpeg.encode_jpeg(np.zeros(self.shape, np.uint8))
        good = next((file for row, file in enumerate(files) if row not in errors), black)
        files = [good if row in errors else file for row, file in enumerate(files)]
        encoded = torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8)
        return {"encoded": encoded, "ends": torch.tensor([0, *map(len, files)]).cumsum(0)}, errors

    def _replace(
        self, batch: Batch, labels: npt.NDArray[np.int8], bad: list[int], first: PictureError
    ) -> None:
        if self.on_bad != "skip":
            raise DataError(str(first)) from None  # torch rebuilds errors of workers from their message alone
        labels[bad] = -1
        if "frames" in batch:
            good = next((row for row in range(len(labels)) if row not in bad), None)
            batch["frames"][bad] = 0 if good is None else batch["frames"][good].clone()

    def _share_out(self, count: int, fill: Callable[[range], None]) -> None:
        """Calls ``fill`` for parts of the batch, in threads."""
        threads = min(self.threads, count)
        if threads <= 1:
            fill(range(count))
            return
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not survive a fork
            self._pool = os.getpid(), ThreadPoolExecutor(self.threads, "decode")
        list(self._pool[1].map(fill, [range(start, count, threads) for start in range(threads)]))


class FeatureDataset(Dataset[Batch]):
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

    def __getitems__(self, indices: Sequence[int] | Rows) -> Batch:
        """Batch of ``features`` (B, C, h, w), ``labels`` (B, num_aus) int8 and ``index`` (B,)."""
        chosen = np.asarray(indices)
        return {
            "features": torch.from_numpy(self.features[chosen]),
            "labels": torch.from_numpy(self.table.labels[chosen]),
            "index": torch.from_numpy(chosen),
        }
