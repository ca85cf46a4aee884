"""What a file has to show before it takes its place: the network's own answers, or nearly its F1."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from aunet.data.datamodule import FrameDataModule
from aunet.metrics import confusion_counts, f1_per_au
from aunet.network import AUNet
from aunet.progress import progress

PARITY = 1e-5
"""Largest difference from the network's probabilities and attention maps that a file in floats may show."""

LARGEST_DROP = 0.005
"""Of the validation macro F1, that integers may cost."""

_RANDOM, _REAL, _BATCH = 16, 64, 64

Frames = npt.NDArray[np.uint8]
Network = Callable[[Frames], Sequence[npt.NDArray[np.float32]]]
"""Crops (B, H, W, 3) -> probabilities (B, num_aus), and perhaps attention maps."""


class ExportError(RuntimeError):
    """A network cannot be exported as asked; the message says why and what to do."""


def check_parity(
    file: Network, network: AUNet, size: int, data: FrameDataModule | None
) -> dict[str, float | bool]:
    """Compares a file with the network that it was made from, on random and on validation frames.

    Args:
        file: What the file gives.
        network: In evaluation mode.
        size: Side of the crops in pixels.
        data: Gives the validation frames; None: random ones alone.

    Returns:
        ``parity``, the largest difference, and ``parity_on_real_frames``, whether there were any.

    Raises:
        ExportError: They differ by more than ``PARITY``.
    """
    random = np.random.default_rng(0).integers(0, 256, (_RANDOM, size, size, 3), np.uint8)
    batches = [random[:1], random]  # of one, which takes other ways in some libraries, and of more
    if data is not None:
        rows = np.linspace(0, len(data.tables["val"]) - 1, min(_REAL, len(data.tables["val"])))
        batches.append(data.frames("val", rows.astype(np.int64)))
    differences = [_differences(file(batch), _expected(network, batch)) for batch in batches]
    largest = np.max(differences, axis=0)
    for name, difference in zip(("probabilities", "attention maps"), largest, strict=False):
        if not difference <= PARITY:  # NaN is no parity either
            raise ExportError(
                f"the file's {name} differ from the network's by {difference:.2g}, more than {PARITY:g}: it "
                "was not written. Where training has hardly begun, rounding alone can do this: train on. "
                "Else another version of torch or of onnxscript may convert the network better"
            )
    return {"parity": float(largest.max()), "parity_on_real_frames": data is not None}


def check_f1(
    floats: Network, integers: Network, data: FrameDataModule, largest_drop: float = LARGEST_DROP
) -> dict[str, float]:
    """Compares the F1 of two files over all validation frames.

    Args:
        floats: What the file in floats gives.
        integers: What the file in integers gives.
        data: Gives the frames and their labels.
        largest_drop: Of macro F1, that integers may cost.

    Returns:
        ``val_f1_floats`` and ``val_f1_int8``.

    Raises:
        ExportError: They cost more; says both figures.
    """
    counts: list[Any] = [0, 0]
    frames = len(data.tables["val"])
    with progress("comparing int8 with floats", frames, "frames") as advance:
        for batch in data.batches("val", torch.device("cpu"), _BATCH):
            crops, labels = batch["frames"].permute(0, 2, 3, 1).numpy(), batch["labels"].numpy()
            for side, file in enumerate((floats, integers)):
                counts[side] = counts[side] + confusion_counts(file(crops)[0], labels)
            advance(len(crops))
    with_floats, with_integers = (float(f1_per_au(count).mean()) for count in counts)
    if with_floats - with_integers > largest_drop:
        raise ExportError(
            f"int8 is refused: validation macro F1 falls from {with_floats:.4f} to {with_integers:.4f}, by "
            f"more than {largest_drop:g}; export without int8"
        )
    return {"val_f1_floats": with_floats, "val_f1_int8": with_integers}


def _expected(network: AUNet, frames: Frames) -> list[npt.NDArray[np.float32]]:
    """Of the network as it was trained, by its own ways."""
    with torch.no_grad():
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
        found = [network(pixels).sigmoid()]
        if hasattr(network.attention, "weights"):
            found.append(cast("Any", network.attention).weights(network.features(pixels)))
    return [tensor.numpy() for tensor in found]


def _differences(
    one: Sequence[npt.NDArray[np.float32]], other: Sequence[npt.NDArray[np.float32]]
) -> list[float]:
    """The largest of each output."""
    return [float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)]
