"""MTCNN's three networks (Zhang et al., 2016, arXiv 1604.02878), with weights that the package mtcnn carries.

That package's own code needs TensorFlow, and what else carries the same weights asks for a PyTorch of 2024;
so the networks are written here, and the files are read as data. The weights are under the MIT licence, as
their authors published them; they were trained on WIDER FACE and CelebA, which are for research.

    P-Net   (B, 3, H, W), H and W at least 12    face score and box of each 12x12 window, every 2 pixels
    R-Net   (B, 3, 24, 24)                       face score and box
    O-Net   (B, 3, 48, 48)                       face score, box and five points

Pixels are RGB in [-1, 1]. Boxes are offsets of the window's corners x0, y0, x1, y1 in parts of its side,
points are x and y in such parts from its upper left corner: eye on the image's left, other eye, nose tip,
mouth corner on the image's left, other mouth corner.
"""

import hashlib
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class _Layout(NamedTuple):
    """A network: (kernel, channels, pooling window or 0) of each convolution, hidden units, outputs."""

    convolutions: tuple[tuple[int, int, int], ...]
    hidden: tuple[int, int]  # inputs, units; (0, 0): convolutional throughout
    outputs: tuple[int, ...]
    sha256: str


LAYOUTS = {
    "pnet": _Layout(
        ((3, 10, 2), (3, 16, 0), (3, 32, 0)), (0, 0), (4, 2),
        "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    ),
    "rnet": _Layout(
        ((3, 28, 3), (3, 48, 3), (2, 64, 0)), (576, 128), (4, 2),
        "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    ),
    "onet": _Layout(
        ((3, 32, 3), (3, 64, 3), (3, 64, 2), (2, 128, 0)), (1152, 256), (4, 10, 2),
        "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
    ),
}  # fmt: skip


class CascadeNet(nn.Module):
    """One of the three networks.

    Args:
        name: Key of LAYOUTS.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        layout = LAYOUTS[name]
        arrays = iter(_read(name))
        layers: list[nn.Module] = []
        channels = 3
        for kernel, width, window in layout.convolutions:
            layers += [_filled(nn.Conv2d(channels, width, kernel), arrays), _prelu(next(arrays))]
            if window:
                layers.append(nn.MaxPool2d(window, 2, ceil_mode=True))
            channels = width
        inputs, units = layout.hidden
        if units:
            layers += [nn.Flatten(), _filled(nn.Linear(inputs, units), arrays), _prelu(next(arrays))]
            self.outputs = nn.ModuleList(_filled(nn.Linear(units, n), arrays) for n in layout.outputs)
        else:
            self.outputs = nn.ModuleList(_filled(nn.Conv2d(channels, n, 1), arrays) for n in layout.outputs)
        self.body = nn.Sequential(*layers)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) in [-1, 1] -> face score in [0, 1], box offsets, and of O-Net the points.

        Of P-Net (B, h, w) and (B, 4, h, w); of the others (B,), (B, 4), and (B, 10): five x, then five y.
        """
        features = self.body(pixels)
        *boxes_and_points, scores = (output(features) for output in self.outputs)
        return scores.softmax(1)[:, 1], *boxes_and_points


def _read(name: str) -> list[npt.NDArray[np.float32]]:
    """The arrays of a network in the order of its layers, as Keras orders their axes.

    The file is a compressed pickle. It is not unpickled: it is known to the last bit, and after the head of
    each array, which ends in the same bytes, lie its alignment and its numbers.
    """
    import lz4.frame  # type: ignore[import-untyped]

    layout = LAYOUTS[name]
    spec = find_spec("mtcnn")  # which does not import it
    if spec is None or spec.origin is None:
        raise RuntimeError("finding faces needs the package mtcnn: install aunet[predict]")
    file = Path(spec.origin).parent / "assets" / "weights" / f"{name}.lz4"
    packed = file.read_bytes()
    if hashlib.sha256(packed).hexdigest() != layout.sha256:
        raise RuntimeError(f"{file}: not the weights of mtcnn 1.0.0, which aunet knows: install mtcnn==1.0.0")
    data = lz4.frame.decompress(packed)
    head = b"K\x10ub"
    arrays, position = [], 0
    for shape in _shapes(layout):
        start = data.index(head, position) + len(head)
        start += 1 + data[start]
        arrays.append(np.frombuffer(data, "<f4", math.prod(shape), start).reshape(shape))
        position = start + arrays[-1].nbytes
    return arrays


def _shapes(layout: _Layout) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    channels = 3
    for kernel, width, _ in layout.convolutions:
        shapes += [(kernel, kernel, channels, width), (width,), (1, 1, width)]
        channels = width
    inputs, units = layout.hidden
    if units:
        shapes += [(inputs, units), (units,), (units,)]
    for count in layout.outputs:
        shapes += [(units, count) if units else (1, 1, channels, count), (count,)]
    return shapes


def _filled(layer: nn.Conv2d | nn.Linear, arrays: Iterator[npt.NDArray[np.float32]]) -> nn.Module:
    """The layer with the next two arrays for weight and bias."""
    weight, bias = torch.tensor(next(arrays)), torch.tensor(next(arrays))
    if isinstance(layer, nn.Conv2d):
        weight = weight.permute(3, 2, 0, 1)
    elif layer.in_features in (576, 1152):  # from a 3x3 map that was flattened as (W, H, C)
        weight = weight.view(3, 3, -1, layer.out_features).permute(3, 2, 1, 0).flatten(1)
    else:
        weight = weight.T
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _prelu(slopes: npt.NDArray[np.float32]) -> nn.PReLU:
    layer = nn.PReLU(slopes.size)
    layer.load_state_dict({"weight": torch.tensor(slopes.ravel())})
    return layer
