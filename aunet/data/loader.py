"""Streams batches: their order, worker processes, the way to the device, and where an epoch goes on."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from aunet.data.batches import Batch, FeatureDataset, FrameDataset, Rows
from aunet.data.device import Move, Side, prefetched
from aunet.data.faults import DataError
from aunet.processes import leave_signals

T = TypeVar("T")


class EpochBatches(Sampler[Rows]):
    """Batches of rows in an order that the epoch fixes, each an array: no list of millions of numbers.

    Args:
        order: Rows of all processes in the order of an epoch.
        size: Rows in an epoch, of all processes.
        batch_size: Rows in a batch, of all processes.
        drop_last: Leave out a last batch that is not full.
        rank: Number of this process among those that share each batch; it takes every world_size-th row.
        world_size: Number of these processes. A last batch may have no row for some of them, who leave it
            out.
    """

    def __init__(
        self,
        order: Callable[[int], Rows],
        size: int,
        batch_size: int,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.order = order
        self.size = size
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.share = slice(rank, None, world_size)
        self.epoch = 0
        self.resume: tuple[int, int] | None = None
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def first(self) -> int:
        """Number of the batch that the epoch begins with: not 0 where an interrupted one goes on."""
        return self.resume[1] if self.resume and self.resume[0] == self.epoch else 0

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        return whole + (rest > self.share.start and not self.drop_last)

    def __iter__(self) -> Iterator[Rows]:
        rows = self.order(self.epoch)
        start = self.first()
        self.resume = None
        for number in range(start, len(self)):
            yield rows[number * self.batch_size : (number + 1) * self.batch_size][self.share]


class FrameLoader(DataLoader[Batch]):
    """Streams the batches of a dataset, on CUDA to the device and one ahead; can go on within an epoch.

    Args:
        dataset: Gives a batch for an array of rows.
        batches: The rows of each batch.
        workers: Processes that decode.
        move: Brings a batch to the device while the one before it is in use, on ``side``; None leaves that
            to the caller.
        side: Stream of the copies; needed with ``move``.
        on_skipped: Told the rows whose pictures could not be used, of each batch that has such.

    Attributes:
        waited: Seconds that whoever takes the batches has waited for them, in the iteration under way.
    """

    def __init__(
        self,
        dataset: FrameDataset | FeatureDataset,
        batches: EpochBatches,
        workers: int = 0,
        move: Move | None = None,
        side: Side | None = None,
        on_skipped: Callable[[list[int]], None] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # torch asks for lists; arrays serve as well
            collate_fn=_as_is,
            num_workers=workers,
            worker_init_fn=leave_signals,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        self.batches = batches
        self.move = move
        self.side = side
        self.on_skipped = on_skipped
        self.waited = 0.0
        self._given = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch's is a private class
        self._given = self.batches.first()
        self.waited = 0.0
        loaded = self._loaded()
        moved = prefetched(loaded, self.move, self.side) if self.move and self.side else loaded
        while True:
            asked = time.perf_counter()
            batch = next(moved, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            self._given += 1
            yield batch

    def _loaded(self) -> Iterator[Batch]:
        batches: Iterator[Batch] = super().__iter__()
        if not self.num_workers:
            batches = ahead(batches)
        try:
            for batch in batches:
                skipped = batch.pop("skipped", None)
                if skipped is not None and len(skipped) and self.on_skipped:
                    self.on_skipped(skipped.tolist())
                yield batch
        except DataError as error:  # of a worker: torch puts its traceback before the message
            raise DataError(str(error).rpartition(f"{DataError.__name__}: ")[2].strip()) from None

    def state_dict(self) -> dict[str, int]:
        """Where the epoch is: Lightning keeps it in each checkpoint."""
        return {"epoch": self.batches.epoch, "given": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Lets that epoch go on after the batches that were given before; others begin as ever."""
        self.batches.resume = state["epoch"], state["given"]


def ahead(batches: Iterator[T]) -> Iterator[T]:
    """The same batches, each made in a thread while the one before is in use: nobody waits for a disk."""
    with ThreadPoolExecutor(1, "ahead") as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def channels_first(frames: Tensor) -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W), a view."""
    return frames.permute(0, 3, 1, 2)


def _as_is(batch: Any) -> Any:
    return batch
