"""From linear light to a JPEG: what a hand in front, the lens, the sensor and the codec do."""

import functools

import numpy as np
import numpy.typing as npt

from aunet.data.rendered.head import Floats
from aunet.data.rendered.raster import compiled
from aunet.data.rendered.scene import Setting
from aunet.data.rendered.shading import halve

OCCLUSION_CHANCE = 0.04
"""Share of frames with something in front of the face."""


@functools.cache
def _srgb_table() -> Floats:
    """Table of the sRGB values in [0, 255] of 4096 linear steps from 0 to 1."""
    c = np.arange(4096) / 4095
    return np.asarray(255 * np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055), np.float32)


def to_srgb(picture: Floats) -> Floats:
    """Linear light in [0, 1], of any shape, to sRGB in [0, 255]; brighter light is clipped."""
    return _srgb_table()[np.clip(picture * 4095, 0, 4095).astype(np.int32)]


@compiled
def _blur(picture: Floats, sigma: np.float32) -> Floats:
    """Gaussian blur of (n, n, 3), edges repeated."""
    size = picture.shape[0]
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    across = np.zeros_like(picture)
    for y in range(size):
        for x in range(size):
            for i in range(7):
                s = min(max(x + i - 3, 0), size - 1)
                for k in range(3):
                    across[y, x, k] += kernel[i] * picture[y, s, k]
    out = np.zeros_like(picture)
    for y in range(size):
        for i in range(7):
            s = min(max(y + i - 3, 0), size - 1)
            for x in range(size):
                for k in range(3):
                    out[y, x, k] += kernel[i] * across[s, x, k]
    return out


def occlude(picture: Floats, rng: np.random.Generator) -> Floats:
    """Put a blunt bar, like a finger, a microphone or a strand, from an edge of the picture over the face."""
    size = len(picture)
    y, x = np.mgrid[:size, :size] + 0.5
    angle = rng.uniform(0, 2 * np.pi)
    start = size / 2 + 0.75 * size * np.array([np.cos(angle), np.sin(angle)])
    end = (
        size / 2
        + rng.uniform(0.1, 0.35) * size * np.array([np.cos(angle), np.sin(angle)])
        + rng.normal(0, 8, 2)
    )
    dx, dy = end - start
    s = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    d = np.hypot(x - start[0] - s * dx, y - start[1] - s * dy) / rng.uniform(5, 14)
    cover = np.clip((1 - d) * 6, 0, 1)[..., None]
    colour = rng.uniform(0.02, 0.5) * np.array([1.0, rng.uniform(0.55, 1.0), rng.uniform(0.4, 1.0)])
    return np.asarray(picture + cover * (colour * (1 - 0.5 * d[..., None] ** 2) - picture), np.float32)


def expose(picture: Floats, setting: Setting, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Linear light (224, 224, 3) to an sRGB crop (112, 112, 3), with defocus, noise, and rare occlusion."""
    picture = halve(picture)
    if rng.random() < OCCLUSION_CHANCE:
        picture = occlude(picture, rng)
    picture = _blur(picture, np.float32(setting.blur))
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(setting.noise)
    return np.asarray(np.clip(np.rint(to_srgb(picture) + noise), 0, 255), np.uint8)


def encode(crop: npt.NDArray[np.uint8], quality: int) -> bytes:
    """JPEG bytes of an RGB crop."""
    import simplejpeg

    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(crop), quality=quality, colorsubsampling="420"))
