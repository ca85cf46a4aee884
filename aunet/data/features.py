"""Feature maps of a backbone that never changes, computed once for each frame."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aunet.data.batches import Batch
from aunet.progress import progress

log = logging.getLogger(__name__)


def compute_features(
    batches: Iterable[Batch], frames: int, extract: Callable[[Tensor], Tensor], file: Path
) -> npt.NDArray[np.float32]:
    """Feature maps of all frames of a split.

    Args:
        batches: ``frames`` (B, 3, H, W) uint8 and ``index`` (B,), every row of the table once.
        frames: Number of rows, one or more.
        extract: (B, 3, H, W) uint8 -> (B, C, h, w), on the device of the batches.
        file: Takes the maps; its stem names the split in messages.

    Returns:
        (frames, C, h, w) float32, a memory map of ``file``.
    """
    maps: npt.NDArray[np.float32] | None = None
    with torch.inference_mode(), progress(f"{file.stem}: frozen features", frames, "frames") as advance:
        for batch in batches:
            features = extract(batch["frames"])
            if maps is None:
                shape = (frames, *features.shape[1:])
                gib = 4 * np.prod(shape) / 2**30
                log.info(f"{file.stem}: frozen features of {frames} frames, {gib:.2f} GiB, computed once")
                maps = np.lib.format.open_memmap(file, "w+", np.float32, shape)
            maps[batch["index"].cpu().numpy()] = features.float().cpu().numpy()
            advance(len(features))
    if maps is None:
        raise ValueError(f"{file.stem}: a split without frames has no features")
    return maps
