"""ActionUnitModule: training and validation steps around a network. Knows no config, path or logger."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, Metric

from aunet.metrics import confusion_counts, f1_metrics
from aunet.network import AUNet
from aunet.parallel import whole_batch

Batch = Mapping[str, Tensor]
"""``frames`` (B, 3, H, W) uint8 or ``features`` (B, C, h, w); ``labels`` (B, num_aus); ``index`` (B,)."""


class TrainingCounts(Protocol):
    """What a data module tells the loss in ``setup("fit")``: the training split's counts."""

    def training_counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(positives, known), both (num_aus,)."""


class ConfusionCounts(Metric):
    """Confusion counts of a whole epoch, summed over batches and processes."""

    full_state_update = False
    counts: Tensor

    def __init__(self, num_aus: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(4, num_aus, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch of (B, num_aus) logits and labels in {0, 1, -1}."""
        counts = confusion_counts(logits.float().sigmoid(), labels)
        rest = (labels >= 0).sum(0, keepdim=True) - counts.sum(0, keepdim=True)
        self.counts += torch.cat([counts, rest])

    def compute(self) -> Tensor:
        """(4, num_aus) tp, fp, fn, tn."""
        return self.counts


class ActionUnitModule(pl.LightningModule):
    """Trains a network on occurrence labels; logs ``train/loss``, ``val/loss``, ``val/f1``, ``val/f1/AU<n>``.

    Args:
        network: Pixels (or cached features) to logits.
        loss: ``(logits, labels) -> scalar``; ``set_counts(positives, known)`` is called once before training.
        optimizer: Builds the optimiser from the trainable parameters.
        aus: AU number of each logit.
        scheduler: Builds the learning-rate schedule from the optimiser, stepped after each epoch; or None.

    Attributes:
        confusion: (4, num_aus) tp, fp, fn, tn of the last validation, of all processes; None before one.
    """

    def __init__(
        self,
        network: AUNet,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        aus: Sequence[int],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.aus = tuple(aus)
        self.val_counts = ConfusionCounts(len(self.aus))
        self.val_loss = MeanMetric()
        self.confusion: Tensor | None = None

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float in [0, 255] -> logits (B, num_aus)."""
        logits: Tensor = self.network(frames)
        return logits

    def batch_logits(self, batch: Batch) -> Tensor:
        """Logits (B, num_aus) of a batch of frames, or of features that a frozen backbone gave before."""
        if "features" in batch:
            return self.network.classify(batch["features"])
        return self.forward(batch["frames"])

    def setup(self, stage: str) -> None:
        """Sets the loss weights from the training split, once: afterwards a checkpoint carries them."""
        if stage == "fit":
            # Lightning does not declare trainer.datamodule; nn.Module types every attribute as a tensor.
            datamodule = cast("TrainingCounts", self.trainer.datamodule)  # type: ignore[attr-defined]
            positives, known = datamodule.training_counts()
            self.loss.set_counts(torch.from_numpy(positives), torch.from_numpy(known))  # type: ignore[operator]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lets a checkpoint carry how its pictures were prepared; ``aunet.trained.load`` compares it."""
        checkpoint["preprocessing"] = self.network.preprocessing()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch, for callbacks with logits and labels; on several devices of the whole batch."""
        logits, labels = whole_batch(self.batch_logits(batch)), whole_batch(batch["labels"])
        loss: Tensor = self.loss(logits, labels)
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=len(labels))
        return {"loss": loss, "logits": logits.detach(), "labels": labels}

    def on_train_epoch_end(self) -> None:
        """Stops a run whose loss is no number; once an epoch, since each look waits for the device.

        Raises:
            FloatingPointError: The epoch's loss is not finite.
        """
        loss = self.trainer.callback_metrics.get("train/loss_epoch")
        if loss is not None and not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"train/loss is {float(loss)} in epoch {self.current_epoch}: lower lr, or use "
                f"trainer=bf16 instead of fp16"
            )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds one batch to the epoch's counts and to its loss, a mean over the known labels."""
        logits, labels = self.batch_logits(batch), batch["labels"]
        self.val_counts.update(logits, labels)
        self.val_loss.update(self.loss(logits, labels), (labels >= 0).sum())

    def on_validation_epoch_end(self) -> None:
        """Logs the loss, and macro and per-AU F1 of the pooled counts, of all processes."""
        # Not by Lightning's own mean, which rounds the number of frames where processes have unequal shares.
        self.log("val/loss", self.val_loss.compute())
        self.val_loss.reset()
        self.confusion = self.val_counts.compute().cpu()
        self.log_dict(f1_metrics(self.confusion, self.aus))
        self.val_counts.reset()

    def configure_optimizers(self) -> Any:
        """Optimiser over the parameters that learn, and the schedule if there is one."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "epoch"},
        }
