"""Lightning callbacks of every run: its history, its random numbers, and a line of progress per epoch."""

import csv
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import distributed

from aunet.data.datamodule import FrameDataModule
from aunet.files import replacing, write_json

log = logging.getLogger(__name__)

SECONDS_BETWEEN_WORDS = 5.0
"""In which ``progress.json`` grows old."""


class StepSeed(Callback):
    """Seeds torch's generators from seed and step, so that a resumed run draws what it would have drawn.

    Args:
        seed: The run's seed.
        rank: Number of this process in a run on several devices: each draws numbers of its own, the first
            those of a single process.
    """

    def __init__(self, seed: int, rank: int = 0) -> None:
        self.seed = seed
        self.rank = rank

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before a step's first random draw, which is its dropout."""
        step = (self.seed * 1_000_003 + trainer.current_epoch) * 1_000_003 + batch_idx
        step += self.rank * 2_654_435_769  # far from neighbouring steps; of a CPU's seed 32 bits count
        torch.manual_seed(step % (1 << 63))


class SharedSkips(Callback):
    """Tells every process which pictures the others could not use: checkpoint and record count them all."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the epoch's checkpoint is written."""
        if trainer.world_size == 1:
            return
        datamodule: FrameDataModule = trainer.datamodule  # type: ignore[attr-defined]  # not declared there
        skipped: list[Any] = [None] * trainer.world_size
        distributed.all_gather_object(skipped, datamodule.skipped)
        for of_one in skipped:
            for split, rows in of_one.items():
                datamodule.count_skipped(split, rows)


class History(Callback):
    """Writes ``history.csv``: seconds, learning rate, losses and F1 of each epoch; says one line for each.

    The columns ``dynamics/*`` come from ``aunet.dynamics``, if it takes part. While it trains,
    ``progress.json`` tells others how far it is.

    Args:
        folder: The run folder; rows that an interrupted attempt left there are kept.
        title: Begins each line, for instance the row and its seed.
        every: Seconds between two lines within an epoch; None: none, where a progress bar is shown.
    """

    def __init__(self, folder: Path, title: str, every: float | None = None) -> None:
        self.file = folder / "history.csv"
        self.title = title
        self.every = every
        self.said = 0.0
        self.rows: list[dict[str, Any]] = []
        self.started = 0.0
        self.written = 0.0
        self.losses = torch.zeros(2)
        self.spent = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Of the epoch under way: sum and number of its losses, and seconds; part of each checkpoint."""
        return {"losses": self.losses.cpu(), "spent": self.spent + time.perf_counter() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """An epoch that was interrupted goes on with them."""
        self.losses, self.spent = state_dict["losses"], state_dict["spent"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads the epochs before the one at which a resumed run goes on."""
        if self.file.exists():
            with self.file.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of an epoch that goes on in its middle, for which no other hook is called.

        That epoch has a row already if its checkpoint was the next to be written.
        """
        self.rows = [row for row in self.rows if int(row["epoch"]) < trainer.current_epoch]
        self.started = self.said = time.perf_counter()
        self.losses = self.losses.to(pl_module.device)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the epoch's clock."""
        self.started = self.said = time.perf_counter()
        if not trainer.fit_loop.epoch_loop.batch_progress.current.completed:
            self.losses, self.spent = torch.zeros_like(self.losses), 0.0
        self.losses = self.losses.to(pl_module.device)
        self._tell(trainer, 0.0, None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Says from time to time how far the epoch is."""
        # Before the checkpoint of this step is written; on the device, so that no step waits for it.
        self.losses[0] += outputs["loss"].detach()
        self.losses[1] += 1
        now = time.perf_counter()
        said = self.every is not None and now - self.said >= self.every
        if not said and now - self.written < SECONDS_BETWEEN_WORDS:
            return
        part = (batch_idx + 1) / trainer.num_training_batches
        left = (now - self.started) / part * ((trainer.max_epochs or 0) - trainer.current_epoch - part)
        self._tell(trainer, part, left)
        if said:
            self.said = now
            log.info(f"{self.title}: epoch {trainer.current_epoch + 1} {part:.0%}, about {left:.0f} s left")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the epoch; Lightning has validated by now."""
        if not trainer.is_global_zero:
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch,
            "seconds": round(self.spent + time.perf_counter() - self.started, 2),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "train/loss": float(self.losses[0] / self.losses[1]),
            **{key: value for key, value in sorted(metrics.items()) if key.startswith(("val/", "dynamics/"))},
        }
        self.rows.append(row)
        with replacing(self.file) as temporary, temporary.open("w", newline="") as file:
            # An attempt without aunet.dynamics, say, has fewer columns.
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in self.rows for key in row)))
            writer.writeheader()
            writer.writerows(self.rows)
        done, total = len(self.rows), trainer.max_epochs or 0
        left = (total - done) * self.seconds() / done
        self._tell(trainer, 1.0, left)
        log.info(
            f"{self.title}: epoch {done}/{total}, train/loss {row['train/loss']:.4f}, "
            f"val/f1 {metrics.get('val/f1', float('nan')):.4f}, {row['seconds']:.0f} s"
            + (f", about {left:.0f} s left" if left else "")
        )

    def _tell(self, trainer: pl.Trainer, part: float, left: float | None) -> None:
        """Writes ``progress.json``: epochs finished, share of the training done, best F1, seconds left."""
        if not trainer.is_global_zero:
            return
        self.written = time.perf_counter()
        epochs = trainer.max_epochs or 1
        content = {
            "epoch": len(self.rows),
            "epochs": epochs,
            "done": min(1.0, (trainer.current_epoch + part) / epochs),
            "f1": max((float(row["val/f1"]) for row in self.rows), default=None),
            "seconds_left": left,
        }
        write_json(self.file.with_name("progress.json"), content)

    def seconds(self) -> float:
        """Training and validation time of all epochs, those of earlier attempts included."""
        return sum(float(row["seconds"]) for row in self.rows)
