"""Checkpoints that are whole or not there, and from which a run goes on as if it had not been interrupted."""

import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from aunet.files import replacing
from aunet.runs import RunError


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the old checkpoint and takes its place at the end.

    Lightning's own way goes through the system's temporary folder; where that is another disk, what takes the
    old checkpoint's place is a copy, which a full disk or a kill cuts off: both are lost then.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Saves a checkpoint.

        Raises:
            OSError: The disk is full, say; the old checkpoint is as it was.
        """
        if storage_options is not None:
            raise TypeError("storage_options are for remote file systems; run folders are local")
        content = io.BytesIO()  # torch says of a full disk only that writing failed
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


class RunCheckpoint(ModelCheckpoint):
    """Lightning's, with two mends: of the moment when one is written, and for folders that have moved.

    Args:
        folder: The run folder.
        filename: Without its ending; each checkpoint takes the place of the one before.
        options: ModelCheckpoint's.
    """

    def __init__(self, folder: Path, filename: str, **options: Any) -> None:
        super().__init__(
            folder, filename, auto_insert_metric_name=False, enable_version_counter=False, **options
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes none after an epoch's last step, which the one of the epoch's end follows.

        Lightning goes on from there with the next epoch: validation, history and best weights of this one
        would be lost.
        """
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best score also where the folder lay elsewhere, which Lightning would forget.

        Raises:
            RunError: The weights of the best epoch are gone.
        """
        folder = Path(self.dirpath)  # type: ignore[arg-type]  # __init__ gave it

        def here(path: str) -> str:
            return path and str(folder / Path(path).name)

        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        for path in best:
            if not Path(path).exists():
                raise RunError(f"{path} is missing: last.ckpt cannot go on without it; move {folder} away")
        paths = {
            key: here(state_dict[key])
            for key in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})
