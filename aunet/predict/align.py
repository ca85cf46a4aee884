"""Aligned crops: the similarity that puts a face's points nearest to the template, and the pixels there."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from aunet.facs import CROP_SIZE, TEMPLATE

Floats = npt.NDArray[np.floating]

_FINE = 1.4
"""Pixels of the picture for each of the crop, up to which one is sampled: averages would blur it."""


def template(side: int = CROP_SIZE) -> npt.NDArray[np.float64]:
    """(5, 2) where alignment puts the points in a crop of that side."""
    return np.array(TEMPLATE) * (side / CROP_SIZE)


def similarity(points: Floats, target: Floats) -> npt.NDArray[np.float64]:
    """The similarities, without mirroring, that bring points nearest to a target (least squares).

    Args:
        points: (n, k, 2) of n faces.
        target: (k, 2).

    Returns:
        (n, 2, 3): (x', y') = matrix @ (x, y, 1).

    Raises:
        ValueError: The points of a face coincide.
    """
    # Of complex numbers a similarity is w = c z + d.
    z = points[..., 0] + 1j * points[..., 1].astype(np.float64)
    w = target[:, 0] + 1j * target[:, 1]
    m = z - z.mean(axis=1, keepdims=True)
    spread = (np.abs(m) ** 2).sum(axis=1)
    if not (spread > 0).all():
        raise ValueError("the points of a face coincide")
    c = (m.conj() * w).sum(axis=1) / spread
    d = w.mean() - c * z.mean(axis=1)
    return np.stack([np.stack([c.real, -c.imag, d.real], 1), np.stack([c.imag, c.real, d.imag], 1)], 1)


def crops(
    picture: npt.NDArray[np.uint8], points: Floats, side: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Aligned crops of the faces of a picture.

    Faces larger than the crop are averaged over the pixels that fall together, not skipped over. What lies
    outside of the picture is black.

    Args:
        picture: (H, W, 3) RGB in [0, 255].
        points: (n, 5, 2) in pixels of the picture.
        side: Of a crop, in pixels.
        device: Where they shall be.

    Returns:
        (n, 3, side, side) uint8, channels last in memory.
    """
    out = torch.empty((len(points), side, side, 3), dtype=torch.uint8, device=device)
    for row, matrix in enumerate(similarity(points, template(side))):
        out[row] = _crop(picture, matrix, side, torch.device(device))
    return out.permute(0, 3, 1, 2)


def _crop(picture: npt.NDArray[np.uint8], matrix: Floats, side: int, device: torch.device) -> Tensor:
    """One crop (side, side, 3), by the similarity from the picture to the crop."""
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    corners = inverse @ np.array([(0, side, 0, side), (0, 0, side, side), (1, 1, 1, 1)], np.float64)
    low = np.maximum(np.floor(corners.min(axis=1)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 2, (picture.shape[1], picture.shape[0]))
    if (low >= high).any():
        return torch.zeros((side, side, 3), dtype=torch.uint8, device=device)
    region = torch.from_numpy(picture[low[1] : high[1], low[0] : high[0]].copy()).to(device)
    pixels = region.permute(2, 0, 1)[None].float()
    step = float(np.hypot(*inverse[:, 0]))  # pixels of the picture for each of the crop
    shrunk = max(1, int(step / 2))
    if shrunk > 1:
        pixels = F.avg_pool2d(pixels, shrunk, ceil_mode=True, count_include_pad=False)
    samples = int(np.ceil(step / shrunk - 0.01)) if step > _FINE else 1
    centres = (np.arange(side * samples) + 0.5) / samples
    x, y = np.meshgrid(centres, centres)
    places = np.einsum("ij,jhw->hwi", inverse, np.stack([x, y, np.ones_like(x)])) - low
    size = np.array((pixels.shape[3], pixels.shape[2])) * shrunk
    grid = torch.from_numpy((2 * places / size - 1).astype(np.float32)).to(device)
    # Linear interpolation would take a seventh of the contrast between neighbouring pixels.
    values = F.grid_sample(pixels, grid[None], mode="bicubic", padding_mode="zeros", align_corners=False)
    if samples > 1:
        values = F.avg_pool2d(values, samples)
    return values[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
