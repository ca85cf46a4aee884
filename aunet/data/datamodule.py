"""FrameDataModule: streams uint8 batches to the device, where they become floats."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor

from aunet.data.batches import Batch, FeatureDataset, FrameDataset
from aunet.data.device import CudaSide, to_device
from aunet.data.faults import DataError, Faults, OnBad
from aunet.data.features import compute_features
from aunet.data.frames import FrameTable
from aunet.data.loader import EpochBatches, FrameLoader, channels_first
from aunet.data.sampling import Sampling
from aunet.data.store import is_store, open_store, recipe
from aunet.facs import CROP_SIZE

log = logging.getLogger(__name__)

Augment = Callable[[Tensor, Tensor, int, int], Tensor]
"""(frames, index, seed, epoch) -> float frames; see ``aunet.augmentation``."""


class FrameDataModule(pl.LightningDataModule):
    """Training, validation and test batches of one data set.

    Batches cross the bus as uint8, from pinned memory where the device is CUDA; networks normalise there.

    Args:
        name: Name of the data set, for tables.
        root: Its folder, or a store that was packed from it.
        read: ``read(root=..., aus=..., faults=...)`` -> FrameTable of "train", "val" and perhaps "test".
        aus: AUs to detect, in the order of the logits.
        batch_size: Frames in a training batch, of all processes of a run on several devices together.
        seed: Fixes the order of the training frames and their augmentation, together with the epoch.
        prepare: ``prepare(out=root)`` makes the data set where it is missing; None: it must be there.
        val_batch_size: Frames in a validation batch of one process; changes no result.
        workers: Processes that decode; None: none on a CPU (they would only take the cores from training), on
            CUDA one for each core, up to 8.
        threads: Threads that decode in each of them, or in this process if there are none; None: all cores in
            this process, one in each worker.
        image_size: Side of the pictures in pixels.
        resize: Resample pictures of another size instead of refusing them.
        sampling: Which frames an epoch of training takes; None: all.
        augmentation: Applied to training batches on the device; None, as in the paper.
        decode: "cuda" decodes JPEG on the GPU by nvJPEG; its pixels differ slightly from libjpeg's.
        on_bad: "error" refuses a data set in which something is wrong; "skip" leaves it out and counts it.
    """

    def __init__(
        self,
        name: str,
        root: str | Path,
        read: Callable[..., dict[str, FrameTable]],
        aus: Sequence[int],
        batch_size: int,
        seed: int = 0,
        prepare: Callable[..., object] | None = None,
        val_batch_size: int = 256,
        workers: int | None = None,
        threads: int | None = None,
        image_size: int = CROP_SIZE,
        resize: bool = False,
        sampling: Sampling | None = None,
        augmentation: Augment | None = None,
        decode: Literal["cpu", "cuda"] = "cpu",
        on_bad: OnBad = "error",
    ) -> None:
        super().__init__()
        if decode not in ("cpu", "cuda"):
            raise DataError(f"data.decode={decode} must be cpu or cuda")
        if decode == "cuda" and resize:
            raise DataError("data.resize=true needs data.decode=cpu")
        if on_bad not in ("error", "skip"):
            raise DataError(f"data.on_bad={on_bad} must be error or skip")
        cores = torch.get_num_threads()
        self.name = name
        self.root = Path(root)
        self.read = read
        self.aus = tuple(aus)
        self.batch_size = batch_size
        self.seed = seed
        self.prepare = prepare
        self.val_batch_size = val_batch_size
        self.workers = (min(8, cores) if torch.cuda.is_available() else 0) if workers is None else workers
        self.threads = (1 if self.workers else cores) if threads is None else threads
        self.image_size = image_size
        self.resize = resize
        self.sampling = sampling or Sampling()
        self.augmentation = augmentation
        self.decode = decode
        self.on_bad: OnBad = on_bad
        self.tables: dict[str, FrameTable] = {}
        self.skipped: dict[str, set[int]] = {}
        self._features: dict[str, npt.NDArray[np.float32]] = {}
        self._fingerprint = ""

    def prepare_data(self) -> None:
        """Makes the data set on first use, if it can be made."""
        if self.prepare is not None and not is_store(self.root):
            self.prepare(out=self.root)

    def setup(self, stage: str) -> None:
        """Reads the annotations once and says in one line for each split what was found.

        Raises:
            DataError: Something is wrong with the data set, and ``on_bad`` is not "skip".
        """
        if self.tables:
            return
        self.tables = self.read_tables(Faults())
        for split, table in self.tables.items():
            log.info(table.summary(split))
        # Of what was read: what a stride or a bad picture leaves out later is no part of it.
        self._fingerprint = "-".join(f"{s}:{t.fingerprint()[:16]}" for s, t in sorted(self.tables.items()))
        self.tables["train"] = self.sampling.thin(self.tables["train"])

    def read_tables(self, faults: Faults) -> dict[str, FrameTable]:
        """Tables of all splits, from the store or from the files; what was recorded in ``faults`` is refused.

        Raises:
            DataError: As ``setup``.
        """
        if is_store(self.root):
            return open_store(self.root, self.aus, recipe(self.read))
        tables = self.read(root=self.root, aus=self.aus, faults=faults)
        faults.refuse(self.on_bad)
        for what, count in faults.skipped().items():
            log.warning(f"{self.root}: {count} {what}: left out (data.on_bad=skip)")
        return tables

    def fingerprint(self) -> str:
        """Hash of frames and labels of all splits; equal for equal data anywhere, packed or not."""
        return self._fingerprint

    def state_dict(self) -> dict[str, Any]:
        """Rows that were skipped so far; part of each checkpoint."""
        return {"skipped": {split: sorted(rows) for split, rows in self.skipped.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on from those of the attempt before."""
        self.skipped = {split: set(rows) for split, rows in state_dict["skipped"].items()}

    def training_counts(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(positives, known) of an epoch on average, both (num_aus,); see ``aunet.data.sampling``."""
        return self.sampling.expected_counts(self.tables["train"])

    def cache_features(self, extract: Callable[[Tensor], Tensor], device: torch.device, folder: Path) -> None:
        """Replaces frames by their feature maps, each computed once; for backbones that never change.

        Args:
            extract: (B, 3, H, W) uint8 -> (B, C, h, w), on ``device``.
            device: Where ``extract`` runs.
            folder: Takes the maps, as memory-mapped float32 files, for ``open_features`` too; the caller
                removes it.

        Raises:
            DataError: Frames are augmented, so that their features change from epoch to epoch.
        """
        if self.augmentation is not None:
            raise DataError("a frozen backbone's features are computed once: use augmentation=none")
        folder.mkdir(parents=True, exist_ok=True)
        for split, table in self.tables.items():
            batches = self.batches(split, device, min(64, self.val_batch_size))
            self._features[split] = compute_features(batches, len(table), extract, folder / f"{split}.npy")
            if self.skipped.get(split):  # the maps of these rows are those of other frames
                labels = np.array(table.labels)
                labels[sorted(self.skipped[split])] = -1
                self.tables[split] = replace(table, labels=labels)
                np.save(folder / f"{split}_labels.npy", labels)

    def batches(self, split: str, device: torch.device, batch_size: int | None = None) -> Iterator[Batch]:
        """All frames of a split in the order of its table, on ``device`` as a network takes them.

        Args:
            split: "train", "val" or "test".
            device: Where they shall be.
            batch_size: Frames in a batch; ``val_batch_size`` if None.
        """
        for batch in self._loader(split, batch_size or self.val_batch_size, device=device):
            yield _as_network_takes_it(to_device(batch, device, self.image_size))

    def frames(self, split: str, rows: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Pictures of some frames of a split, to be looked at.

        Args:
            split: "train", "val" or "test".
            rows: (n,) row numbers of the split's table.

        Returns:
            (n, H, W, 3) RGB in [0, 255].

        Raises:
            DataError: A picture cannot be used; names it.
        """
        dataset = FrameDataset(self.tables[split], self.image_size, self.threads, self.resize)
        pixels: npt.NDArray[np.uint8] = dataset.__getitems__(np.asarray(rows, np.int64))["frames"].numpy()
        return pixels

    def open_features(self, folder: Path) -> None:
        """Takes the maps that the first process of a run left in ``cache_features``' folder."""
        for split, table in self.tables.items():
            self._features[split] = np.load(folder / f"{split}.npy", mmap_mode="r")
            labels = folder / f"{split}_labels.npy"
            if labels.exists():
                self.tables[split] = replace(table, labels=np.load(labels))

    def train_dataloader(self) -> FrameLoader:
        """Shuffled batches; a last batch that is not full is left out: BatchNorm cannot take one frame.

        On several devices each process takes its share of every batch.

        Raises:
            DataError: The batch cannot be shared equally.
        """
        table = self.tables["train"]
        size = self.sampling.epoch_size(table)
        rank, world_size = self._place()
        batch_size = max(1, min(self.batch_size, size))
        if batch_size % world_size:
            whole = " (all training frames of an epoch)" if batch_size == size else ""
            raise DataError(
                f"batch_size={batch_size}{whole} is what all processes take in a step, and trainer.devices="
                f"{world_size} do not share it equally: choose another batch_size or number of devices"
            )
        rows = EpochBatches(
            lambda epoch: self.sampling.order(table, self.seed, epoch),
            size,
            batch_size,
            drop_last=True,
            rank=rank,
            world_size=world_size,
        )
        return self._loader("train", rows=rows, device=self._device())

    def val_dataloader(self) -> FrameLoader:
        """All validation frames, in the order of the table; on several devices each takes its share.

        Raises:
            DataError: There is no frame for some process.
        """
        rank, world_size = self._place()
        if len(self.tables["val"]) < world_size:
            raise DataError(
                f"trainer.devices={world_size} are more than the {len(self.tables['val'])} validation frames"
            )
        return self._loader("val", self.val_batch_size * world_size, rank, world_size, device=self._device())

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copies, and decodes what is still encoded; nothing is left to do where the loader ran ahead."""
        return to_device(batch, device, self.image_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: frames (B, H, W, 3) become a (B, 3, H, W) view, which is channels_last for free.

        In training they are augmented there, if so configured, and become floats in [0, 255].
        """
        batch = _as_network_takes_it(batch)
        if self.augmentation is None or self.trainer is None or not self.trainer.training:
            return batch
        epoch = self.trainer.current_epoch
        return {**batch, "frames": self.augmentation(batch["frames"], batch["index"], self.seed, epoch)}

    def _place(self) -> tuple[int, int]:
        """(rank, number) of this process among those of a run on several devices."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _loader(
        self,
        split: str,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
        *,
        device: torch.device,
        rows: EpochBatches | None = None,
    ) -> FrameLoader:
        table = self.tables[split]
        if rows is None:
            size = len(table)
            rows = EpochBatches(lambda _: np.arange(size), size, batch_size, False, rank, world_size)
        on_cuda = device.type == "cuda"
        if self.decode == "cuda" and not on_cuda:
            raise DataError("data.decode=cuda needs a CUDA device; data.decode=cpu decodes on the host")
        if split in self._features:
            return FrameLoader(FeatureDataset(table, self._features[split]), rows)
        dataset = FrameDataset(
            table, self.image_size, self.threads, self.resize, self.on_bad, encoded=self.decode == "cuda"
        )
        return FrameLoader(
            dataset,
            rows,
            self.workers,
            move=(lambda batch: to_device(batch, device, self.image_size)) if on_cuda else None,
            side=CudaSide(device) if on_cuda else None,
            on_skipped=lambda bad: self.count_skipped(split, bad),
        )

    def count_skipped(self, split: str, bad: Iterable[int]) -> None:
        """Notes rows that could not be used, and says of each once that it is left out."""
        known = self.skipped.setdefault(split, set())
        for row in sorted(set(bad) - known):
            name = self.tables[split].source.name(row)
            log.warning(f"{name}: cannot be used, left out (data.on_bad=skip)")
        known.update(bad)


def _as_network_takes_it(batch: Batch) -> Batch:
    return {**batch, "frames": channels_first(batch["frames"])} if "frames" in batch else batch


def summary_counts(tables: Mapping[str, FrameTable]) -> dict[str, Any]:
    """Videos, frames and positives of each split, for a run's record."""
    return {
        split: {
            "videos": len(table.videos),
            "frames": len(table),
            "positives": table.positives().tolist(),
            "known": table.known().tolist(),
            "left_out": dict(table.dropped),
        }
        for split, table in tables.items()
    }
