"""Where a network looks: its own attention and Grad-CAM, laid over the crop, and priors that see no picture.

A network's map has few positions (2x2 to 7x7), the truth 28x28 cells of 4x4 pixels. Each cell takes the
weight of the position whose place in the crop is nearest to it, and the result is scaled to sum to 1: nothing
is smoothed that the network does not tell apart, and equal weights become the uniform map, whatever the size.
Where a position lies follows from the strides and paddings of the backbone (``position_centres``): a map of
2x2, say, which pooling that rounds up has made of 112 pixels, has its border at pixel 64, not in the middle.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import LayerGradCam  # type: ignore[import-untyped]
from torch import Tensor, nn

from aunet.facs import CROP_SIZE, TEMPLATE
from aunet.network import AUNet

Array = npt.NDArray[np.float64]

GRID = 28
"""Cells along each side of the crop."""

PRIOR_WIDTH = CROP_SIZE / 4
"""Standard deviation of the centre prior in pixels, chosen before any score was seen: from one deviation on
its one side to one on the other it spans half of the crop, about the width of the eyes and of the mouth."""


@dataclass(frozen=True)
class Maps:
    """Maps over some frames, by the positions on which they were made.

    Attributes:
        weights: (N, M, h, w) not negative; M is the number of AUs, or 1 for maps that all AUs share.
        rows: (GRID,) the row of positions, in 0..h-1, that each row of cells takes its weights from.
        columns: (GRID,) the same of the columns.
    """

    weights: npt.NDArray[np.floating]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    @property
    def shared(self) -> bool:
        """Whether all AUs have the same map."""
        return len(self.weights[0]) == 1

    def on_grid(self, frame: npt.NDArray[np.int64], au: npt.NDArray[np.int64]) -> Array:
        """Maps of K pairs of a frame and an AU's column: (K, GRID, GRID), each summing to 1."""
        chosen = self.weights[frame, 0 if self.shared else au]
        cells = chosen[:, self.rows[:, None], self.columns].astype(np.float64)
        scaled: Array = cells / cells.sum((1, 2), keepdims=True)
        return scaled


def of_others(maps: Maps) -> Maps:
    """For each AU the mean of the other AUs' maps: what a network looks at for any AU but this one."""
    even = maps.weights / maps.weights.sum((2, 3), keepdims=True)
    others = (even.sum(1, keepdims=True) - even) / (even.shape[1] - 1)
    return Maps(others, maps.rows, maps.columns)


def uniform(frames: int) -> Maps:
    """The map that prefers nothing."""
    nowhere = np.zeros(GRID, np.int64)
    return Maps(np.broadcast_to(np.ones(1), (frames, 1, 1, 1)), nowhere, nowhere)


def centre_prior(frames: int) -> Maps:
    """A Gaussian at the middle of the five landmarks to which faces are aligned, the same for every frame."""
    pixels = (np.arange(GRID) + 0.5) * CROP_SIZE / GRID
    x, y = np.mean(TEMPLATE, 0)
    along, down = (np.exp(-(((pixels - centre) / PRIOR_WIDTH) ** 2) / 2) for centre in (x, y))
    cells = np.arange(GRID)
    return Maps(np.broadcast_to(np.outer(down, along), (frames, 1, GRID, GRID)), cells, cells)


@dataclass(frozen=True)
class Look:
    """What one network says about some frames.

    Attributes:
        attention: Its own weights; None for a network that does not attend.
        grad_cam: Of each AU.
        probs: (N, num_aus).
        empty: (N, num_aus) whether Grad-CAM was 0 everywhere; a uniform map stands in for it.
    """

    attention: Maps | None
    grad_cam: Maps
    probs: npt.NDArray[np.float32]
    empty: npt.NDArray[np.bool_]


def look(network: AUNet, batches: Iterable[Tensor], image_size: int) -> Look:
    """Maps of a network in evaluation mode.

    Args:
        network: Any of the package's.
        batches: Of frames (B, 3, H, W) uint8, on the network's device.
        image_size: Their side.
    """
    attention, cams, probs = [], [], []
    for frames in batches:
        with torch.no_grad():  # no inference mode: Grad-CAM goes back from here
            features = network.features(frames)
            probs.append(network.classify(features).sigmoid().cpu())
            if (weights := own_attention(network, features)) is not None:
                attention.append(weights.cpu())
        cams.append(grad_cam(network, features).cpu())
    cam = torch.cat(cams).numpy()
    empty = cam.max((2, 3)) <= 0
    cam[empty] = 1
    rows, columns = (
        nearest_positions(centres, image_size) for centres in position_centres(network.backbone, image_size)
    )
    own = Maps(torch.cat(attention).numpy(), rows, columns) if attention else None
    return Look(own, Maps(cam, rows, columns), torch.cat(probs).numpy(), empty)


def own_attention(network: AUNet, features: Tensor) -> Tensor | None:
    """(B, M, h, w) attention on feature maps (B, C, h, w); None where the aggregator has no weights."""
    weigh = getattr(network.attention, "weights", None)
    if weigh is None:
        return None
    weights: Tensor = weigh(features)
    return weights[:, None] if weights.ndim == 3 else weights


def grad_cam(network: AUNet, features: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of each AU's logit on the backbone's map, by captum.

    Captum starts at the feature map: the layer is the backbone's output, so what lies before it has no part.

    Args:
        network: In evaluation mode.
        features: (B, C, h, w) from ``network.features``.

    Returns:
        (B, num_aus, h, w), not negative; 0 throughout where no position speaks for the AU.
    """
    head = _Head(network)
    method = LayerGradCam(head, head.features)
    with torch.no_grad():
        num_aus = network.classify(features[:1]).shape[1]
    maps = [
        method.attribute(features.detach(), target=au, relu_attributions=True).detach()
        for au in range(num_aus)
    ]
    return torch.cat(maps, 1)


class _Head(nn.Module):
    """A network from its feature map on."""

    def __init__(self, network: AUNet) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> logits (B, num_aus)."""
        return self.network.classify(self.features(features))


def settle_normalisation(network: AUNet, frames: Tensor) -> None:
    """Sets the running statistics of an untrained network to those of some frames, as training would.

    With the initial ones its activations fade or grow from layer to layer, and so the contrast of its maps.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all that passes
    network.train()
    with torch.no_grad():
        network(frames)
    network.eval()


def position_centres(backbone: nn.Module, image_size: int) -> tuple[Array, Array]:
    """Where the receptive fields of the positions have their middle, by rows and by columns.

    Each layer that changes the size puts the centre of its first output into the middle of its first window.
    Where such layers do not tell (a backbone that changes sizes by other means), positions are taken to share
    the picture equally, with a warning.

    Args:
        backbone: Takes (1, 3, image_size, image_size).
        image_size: Side of the picture in pixels.

    Returns:
        (h,) and (w,) in pixels; that of the first pixel is 0.5.
    """
    known: list[dict[int, tuple[float, float]]] = [{image_size: (1.0, 0.5)}, {image_size: (1.0, 0.5)}]

    def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for axis in (0, 1):
            before, after = inputs[0].shape[2 + axis], output.shape[2 + axis]
            kernel, stride, padding, dilation = (
                value[axis] if isinstance(value, tuple) else value
                for value in (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
            )
            if after in known[axis] or before not in known[axis]:
                continue
            extent = dilation * (kernel - 1) + 1
            if not padding or isinstance(padding, str):
                # What the layer adds itself, as TensorFlow does, has its odd pixel at the end.
                padding = max(0, (after - 1) * stride + extent - before) // 2
            step, first = known[axis][before]
            known[axis][after] = step * stride, first + step * ((extent - 1) / 2 - padding)

    layers = [m for m in backbone.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            device = next((p.device for p in backbone.parameters()), None)
            size = backbone(torch.zeros(1, 3, image_size, image_size, device=device)).shape[2:]
    finally:
        for hook in hooks:
            hook.remove()
    if any(length not in places for length, places in zip(size, known, strict=True)):
        warnings.warn(
            "the backbone's layers do not tell where its positions lie: taken as evenly spread", stacklevel=2
        )
        known = [{length: (image_size / length, image_size / length / 2)} for length in size]
    rows, columns = (
        places[length][1] + places[length][0] * np.arange(length)
        for length, places in zip(size, known, strict=True)
    )
    return rows, columns


def nearest_positions(centres: Array, image_size: int) -> npt.NDArray[np.int64]:
    """(GRID,) the position nearest to each cell."""
    cells = (np.arange(GRID) + 0.5) * image_size / GRID
    nearest: npt.NDArray[np.int64] = np.abs(cells[:, None] - centres).argmin(1)
    return nearest
