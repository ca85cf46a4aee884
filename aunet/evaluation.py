"""Predictions of a run's best weights on its validation split, and the F1 that follows from them."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from aunet.data.datamodule import FrameDataModule
from aunet.files import replacing
from aunet.metrics import confusion_counts, f1_metrics
from aunet.module import ActionUnitModule


def evaluate(
    module: ActionUnitModule, datamodule: FrameDataModule, trainer: pl.Trainer, folder: Path
) -> dict[str, float]:
    """Loads ``best.ckpt`` and predicts every validation frame, and every test frame if there are any.

    Writes ``predictions.npz`` and, of a test split, ``predictions_test.npz``. The test split had no part in
    the choice of the best epoch.

    Args:
        module: Receives the best weights.
        datamodule: Gives the frames, in the order of their tables.
        trainer: Names the device and the precision.
        folder: The run folder.

    Returns:
        ``val/f1`` and ``val/f1/AU<n>``; likewise ``test/``.
    """
    best = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    module.to(trainer.strategy.root_device).eval()
    metrics = _predict("val", module, datamodule, trainer, folder / "predictions.npz")
    if "test" in datamodule.tables:
        test = _predict("test", module, datamodule, trainer, folder / "predictions_test.npz")
        metrics |= {key.replace("val/", "test/", 1): value for key, value in test.items()}
    return metrics


def _predict(
    split: str, module: ActionUnitModule, datamodule: FrameDataModule, trainer: pl.Trainer, file: Path
) -> dict[str, float]:
    """Predicts a split, writes its predictions and returns their F1."""
    device = trainer.strategy.root_device
    logits, labels = [], []
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for batch in datamodule.batches(split, device):
            logits.append(module.batch_logits(batch).float().cpu())
            labels.append(batch["labels"].cpu())  # not the table's: of a skipped frame nothing is known
    pooled, known = torch.cat(logits), torch.cat(labels)
    table = datamodule.tables[split]
    with replacing(file) as temporary, temporary.open("wb") as content:
        np.savez_compressed(
            content,
            logits=pooled.numpy(),
            labels=known.numpy(),
            video=np.array(table.videos)[table.video],
            group=np.array(table.groups)[table.video],  # base video or subject: what varies independently
            frame=table.frame,
            aus=np.array(table.aus),
        )
    return f1_metrics(confusion_counts(pooled.sigmoid(), known), datamodule.aus)
