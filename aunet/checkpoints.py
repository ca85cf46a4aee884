"""Checkpoints that are whole or not there, whatever ends the process or fills the disk."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from aunet.runs import replacing


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
