"""Brings batches to the device: copies that overlap the work on the batch before, and decoding on the GPU."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from aunet.data.faults import DataError

Batch = dict[str, Tensor]
Move = Callable[[Batch], Batch]


class Side(Protocol):
    """A stream of work beside the one that computes."""

    def running(self) -> AbstractContextManager[object]:
        """Work within it is queued on the stream."""

    def join(self, batch: Batch) -> Batch:
        """Lets the computing stream wait for what was queued so far; ``batch`` belongs to it from now on."""


class CudaSide:
    """A CUDA stream of its own for copies."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it

    def running(self) -> AbstractContextManager[object]:
        """Work within it is queued on the stream."""
        return torch.cuda.stream(self.stream)

    def join(self, batch: Batch) -> Batch:
        """Lets the computing stream wait; its allocator learns that the tensors are in use there."""
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.stream)
        for tensor in batch.values():
            if tensor.is_cuda:
                tensor.record_stream(computing)
        return batch


def prefetched(batches: Iterable[Batch], move: Move, side: Side) -> Iterator[Batch]:
    """Moves each batch while the one before it is in use.

    Args:
        batches: On the host, from pinned memory.
        move: Queues the copies of one batch.
        side: Stream that they are queued on.

    Yields:
        The batches on the device, in their order.
    """
    iterator = iter(batches)
    ahead: Batch | None = None
    while True:
        ready = ahead and side.join(ahead)
        host = next(iterator, None)
        if host is None:
            ahead = None
        else:
            with side.running():
                ahead = move(host)
        if ready:
            yield ready
        if ahead is None:
            return


def to_device(batch: Batch, device: torch.device, image_size: int) -> Batch:
    """A batch on the device; encoded pictures are decoded there, ``frames`` (B, H, W, 3) uint8.

    Raises:
        DataError: A picture cannot be decoded there, or has another size.
    """
    moved = {
        key: value.to(device, non_blocking=True)
        for key, value in batch.items()
        if key not in ("encoded", "ends")
    }
    if "encoded" in batch:
        moved["frames"] = decode_frames(batch["encoded"], batch["ends"], device, image_size)
    return moved


def decode_frames(encoded: Tensor, ends: Tensor, device: torch.device, image_size: int) -> Tensor:
    """Decodes JPEG files by torchvision: nvJPEG on CUDA, libjpeg on a CPU.

    nvJPEG rounds otherwise than libjpeg, so that pixels differ by a level or two from those of the host.

    Args:
        encoded: (bytes,) uint8 on the host, the files one after another.
        ends: (B + 1,) where each begins and ends.
        device: Where the pixels shall be.
        image_size: Side of the pictures in pixels.

    Returns:
        (B, H, W, 3) uint8 on ``device``.
    """
    files = [encoded[start:end] for start, end in pairwise(ends.tolist())]
    try:
        pictures = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
    except RuntimeError as error:
        raise DataError(
            f"a picture of the batch cannot be decoded on {device} ({str(error).splitlines()[0]}); "
            f"data.decode=cpu names the file"
        ) from None
    sizes = {tuple(picture.shape[1:]) for picture in pictures} - {(image_size, image_size)}
    if sizes:
        raise DataError(
            f"pictures of {sorted(sizes)} where data.image_size says {image_size}; "
            f"data.decode=cpu names the file"
        )
    return torch.stack(pictures).permute(0, 2, 3, 1).contiguous()
