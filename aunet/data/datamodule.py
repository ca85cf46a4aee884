"""FrameDataModule: streams uint8 batches to the device, where they become floats."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from aunet.data.batches import EpochSampler, FeatureDataset, FrameDataset, FrameLoader, channels_first
from aunet.data.frames import FrameTable
from aunet.facs import CROP_SIZE

log = logging.getLogger(__name__)


class FrameDataModule(pl.LightningDataModule):
    """Training and validation batches of one data set.

    Batches cross the bus as uint8, from pinned memory where the device is CUDA; networks normalise there.

    Args:
        name: Name of the data set, for tables.
        root: Its folder.
        read: ``read(root=..., aus=...)`` -> FrameTable of "train" and "val".
        aus: AUs to detect, in the order of the logits.
        batch_size: Frames in a training batch.
        seed: Fixes the order of the training frames, together with the epoch.
        prepare: ``prepare(out=root)`` makes the data set where it is missing; None: it must be there.
        val_batch_size: Frames in a validation batch; changes no result.
        workers: Processes that decode; None: none on a CPU of up to 4 cores (they would only take the cores
            from training), else up to 8.
        image_size: Side of the crops in pixels.
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
        image_size: int = CROP_SIZE,
    ) -> None:
        super().__init__()
        self.name = name
        self.root = Path(root)
        self.read = read
        self.aus = tuple(aus)
        self.batch_size = batch_size
        self.seed = seed
        self.prepare = prepare
        self.val_batch_size = val_batch_size
        self.workers = _default_workers() if workers is None else workers
        self.image_size = image_size
        self.tables: dict[str, FrameTable] = {}
        self._features: dict[str, npt.NDArray[np.float32]] = {}

    def prepare_data(self) -> None:
        """Makes the data set on first use, if it can be made."""
        if self.prepare is not None:
            self.prepare(out=self.root)

    def setup(self, stage: str) -> None:
        """Reads the annotations once and says in one line for each split what was found."""
        if not self.tables:
            self.tables = self.read(root=self.root, aus=self.aus)
            for split, table in self.tables.items():
                log.info(table.summary(split))

    def fingerprint(self) -> str:
        """Hash of frames and labels of both splits; equal for equal data in different places."""
        return "-".join(f"{split}:{table.fingerprint()[:16]}" for split, table in sorted(self.tables.items()))

    def training_counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(positives, known) of the training split, both (num_aus,)."""
        return self.tables["train"].positives(), self.tables["train"].known()

    def cache_features(self, extract: Callable[[Tensor], Tensor], device: torch.device, folder: Path) -> None:
        """Replaces frames by their feature maps, each computed once; for backbones that never change.

        Args:
            extract: (B, 3, H, W) uint8 -> (B, C, h, w), on ``device``.
            device: Where ``extract`` runs.
            folder: Takes the maps, as memory-mapped float32 files; the caller removes it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for split, table in self.tables.items():
            maps: npt.NDArray[np.float32] | None = None
            loader = self._loader(FrameDataset(table, self.image_size), min(64, self.val_batch_size))
            started = said = time.perf_counter()
            with torch.inference_mode():
                for done, batch in enumerate(loader):
                    now = time.perf_counter()
                    if done and now - said > 20:
                        said, left = now, (now - started) * (len(loader) / done - 1)
                        log.info(
                            f"{split}: frozen features {done / len(loader):.0%}, about {left:.0f} s left"
                        )
                    features = extract(channels_first(batch["frames"].to(device, non_blocking=True)))
                    if maps is None:
                        shape = (len(table), *features.shape[1:])
                        gib = 4 * np.prod(shape) / 2**30
                        log.info(
                            f"{split}: frozen features of {len(table)} frames, {gib:.2f} GiB, computed once"
                        )
                        file = folder / f"{split}.npy"
                        maps = np.lib.format.open_memmap(file, "w+", np.float32, shape)
                    maps[batch["index"].numpy()] = features.float().cpu().numpy()
            if maps is not None:
                self._features[split] = maps

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled batches; a last batch that is not full is left out: BatchNorm cannot take one frame."""
        dataset = self._dataset("train")
        sampler = EpochSampler(len(self.tables["train"]), self.seed)
        size = min(self.batch_size, len(sampler))
        return self._loader(dataset, size, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """All validation frames, in the order of the table."""
        return self._loader(self._dataset("val"), self.val_batch_size)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """On the device: frames (B, H, W, 3) become a (B, 3, H, W) view, which is channels_last for free."""
        if "frames" not in batch:
            return batch
        return {**batch, "frames": channels_first(batch["frames"])}

    def _dataset(self, split: str) -> FrameDataset | FeatureDataset:
        if split in self._features:
            return FeatureDataset(self.tables[split], self._features[split])
        return FrameDataset(self.tables[split], self.image_size)

    def _loader(
        self,
        dataset: FrameDataset | FeatureDataset,
        batch_size: int,
        sampler: Sampler[int] | None = None,
        drop_last: bool = False,
    ) -> DataLoader[dict[str, Tensor]]:
        workers = self.workers if isinstance(dataset, FrameDataset) else 0
        return FrameLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler or SequentialSampler(dataset),
            collate_fn=_as_is,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


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


def _as_is(batch: Any) -> Any:
    return batch


def _default_workers() -> int:
    cores = torch.get_num_threads()
    return 0 if not torch.cuda.is_available() and cores <= 4 else min(8, cores)
