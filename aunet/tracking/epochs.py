"""What every logger gets of each epoch beside Lightning's losses and F1, under the same keys."""

import time
from collections.abc import Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from aunet.data.loader import FrameLoader
from aunet.facs import au_column
from aunet.metrics import precision_per_au, recall_per_au
from aunet.module import ActionUnitModule


class EpochLog(Callback):
    """Sends each epoch's learning rate, speed, precision, recall and confusion counts to the loggers.

    Keys: ``epoch``, ``lr``, ``time/frames_per_second`` (of training), ``time/data_wait`` (share of the
    training time that went by waiting for batches, in [0, 1]) and those of ``confusion_metrics``.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.started = 0.0
        self.trained = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of an epoch that goes on in its middle, for which no other hook is called."""
        self.frames, self.started = 0, time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the epoch's clock."""
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts frames; stops the clock at the epoch's last batch."""
        self.frames += len(batch["labels"]) * trainer.world_size
        if trainer.is_last_batch:
            float(outputs["loss"])  # waits for the device, once an epoch: its steps are only queued by now
            self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sends them; Lightning has validated by now."""
        if not trainer.loggers:
            return
        module = cast("ActionUnitModule", pl_module)
        seconds = self.trained - self.started
        loader = cast("FrameLoader", trainer.train_dataloader)
        found: dict[str, float] = {
            "epoch": trainer.current_epoch,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "time/frames_per_second": self.frames / seconds,
            "time/data_wait": min(1.0, loader.waited / seconds),
        }
        if module.confusion is not None:
            found |= confusion_metrics(module.confusion, module.aus)
        for logger in trainer.loggers:
            logger.log_metrics(found, step=trainer.global_step)


def confusion_metrics(counts: torch.Tensor, aus: Sequence[int]) -> dict[str, float]:
    """``val/precision/AU<n>``, ``val/recall/AU<n>``, ``val/tp/AU<n>``, ``val/fp/AU<n>``, ``val/fn/AU<n>``.

    Args:
        counts: (3 or more, num_aus) true positives, false positives, false negatives.
        aus: AU number of each column.
    """
    tp, fp, fn = counts[:3]
    of_au = {
        "precision": precision_per_au(counts),
        "recall": recall_per_au(counts),
        "tp": tp,
        "fp": fp,
        "fn": fn,
    }
    return {
        f"val/{name}/{au_column(au)}": float(value)
        for name, values in of_au.items()
        for au, value in zip(aus, values, strict=True)
    }
