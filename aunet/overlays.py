"""Pictures with what a network attended to laid over them."""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

LEAST, MOST = 0.15, 0.75
"""Opacity of the heat where attention is none, and where it is greatest."""

_HEAT = np.array(
    [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32
)  # black, purple, red, orange, yellow: steps of equal lightness, also for colour-blind readers
"""Colours from least to greatest."""


def enlarged(maps: npt.NDArray[np.floating], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Attention maps in the size of the picture, smoothly; each still sums to 1.

    Args:
        maps: (n, h, w), each summing to 1.
        size: (height, width) of the pictures.

    Returns:
        (n, height, width).
    """
    small = torch.from_numpy(np.asarray(maps, np.float32))[:, None]
    large = F.interpolate(small, size, mode="bilinear", align_corners=False)[:, 0].numpy()
    scaled: npt.NDArray[np.float32] = large / large.sum((1, 2), keepdims=True)
    return scaled


def heat(attention: npt.NDArray[np.floating], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """An attention map as colours with their opacity: dark where there is little, yellow where there is most.

    A map that is the same everywhere is an even tint.

    Args:
        attention: (h, w), not negative, of any size.
        size: (height, width) of the picture that it is laid over.

    Returns:
        (height, width, 4): RGB in [0, 255] and opacity in [0, 1].
    """
    height, width = size
    shares = enlarged(np.asarray(attention)[None] / np.sum(attention), size)[0]
    low, high = float(shares.min()), float(shares.max())
    # By how much the greatest exceeds an even share: a nearly even map shall not look like a decided one.
    spread = min(1.0, (high - low) * height * width)
    level = (shares - low) / max(high - low, 1e-12) * spread
    places = np.linspace(0, 1, len(_HEAT))
    colours = [np.interp(level, places, channel) for channel in _HEAT.T]
    return np.stack([*colours, LEAST + (MOST - LEAST) * level], -1)


def overlay(frame: npt.NDArray[np.uint8], attention: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """One picture under its attention map, see ``heat``.

    Args:
        frame: (H, W, 3) RGB.
        attention: (h, w), not negative, of any size.

    Returns:
        (H, W, 3) RGB.
    """
    hot = heat(attention, frame.shape[:2])
    opacity = hot[..., 3:]
    mixed = frame * (1 - opacity) + hot[..., :3] * opacity
    return np.asarray(mixed.round(), np.uint8)
