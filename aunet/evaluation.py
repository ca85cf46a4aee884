"""Predictions of a run's best weights on its validation split, and the F1 that follows from them."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from aunet.data.datamodule import FrameDataModule
from aunet.metrics import confusion_counts, f1_metrics
from aunet.module import ActionUnitModule
from aunet.runs import replacing


def evaluate(
    module: ActionUnitModule, datamodule: FrameDataModule, trainer: pl.Trainer, folder: Path
) -> dict[str, float]:
    """Loads ``best.ckpt``, predicts every validation frame and writes ``predictions.npz``.

    Args:
        module: Receives the best weights.
        datamodule: Gives the validation frames, in the order of their table.
        trainer: Names the device and the precision.
        folder: The run folder.

    Returns:
        ``val/f1`` and ``val/f1/AU<n>``.
    """
    best = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    device = trainer.strategy.root_device
    module.to(device).eval()
    batches = []
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for batch in datamodule.val_dataloader():
            on_device = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
            logits = module.batch_logits(datamodule.on_after_batch_transfer(on_device, 0))
            batches.append(logits.float().cpu())
    pooled = torch.cat(batches)
    table = datamodule.tables["val"]
    with replacing(folder / "predictions.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            logits=pooled.numpy(),
            labels=table.labels,
            video=np.array(table.videos)[table.video],
            frame=table.frame,
            aus=np.array(table.aus),
        )
    return f1_metrics(confusion_counts(pooled.sigmoid(), torch.from_numpy(table.labels)), datamodule.aus)
