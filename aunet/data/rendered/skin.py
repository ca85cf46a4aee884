"""Skin painted on the face: tone, brows, scalp, beard, and the relief of age. Lengths in centimetres."""

import numpy as np

from aunet.data.rendered.actions import groove, groove_maps, surface_grid
from aunet.data.rendered.head import Floats
from aunet.data.rendered.shading import TEXTURE_SIZE


def linear(colour: object) -> Floats:
    """Convert sRGB in [0, 255] to linear light in [0, 1]."""
    c = np.asarray(colour, np.float32) / 255
    return np.asarray(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), np.float32)


def smooth_noise(rng: np.random.Generator, size: int, cells: tuple[int, ...]) -> Floats:
    """(size, size) noise of unit scale whose features span size / cells texels, (down, across)."""
    from PIL import Image

    coarse = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _step(x: Floats, width: float) -> Floats:
    """0 below -width / 2, 1 above width / 2, smooth between."""
    t = np.clip(x / width + 0.5, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _spot(across: Floats, up: Floats, x: float, y: float, rx: float, ry: float) -> Floats:
    """A soft ellipse (n, n), 1 in the middle (x, y)."""
    return np.asarray(np.exp(-(((across - x) / rx) ** 2)) * np.exp(-(((up - y) / ry) ** 2)), np.float32)


def paint_skin(
    rng: np.random.Generator, skin: Floats, hair: Floats, female: bool, years: float
) -> tuple[Floats, Floats, bool]:
    """Paint a face.

    Args:
        rng: draws everything.
        skin: linear colour (3,); likewise ``hair``.
        hair: see ``skin``.
        female: sex.
        years: age.

    Returns:
        Colour and share of hair (n, n, 4), relief in metres (n, n), both of TEXTURE_SIZE texels a side, and
        whether the person is bald.
    """
    across, up = surface_grid()
    side = np.abs(across)
    coarse, fine = smooth_noise(rng, TEXTURE_SIZE, (40, 100)), smooth_noise(rng, TEXTURE_SIZE, (128, 128))
    colour = _tone(rng, skin, across, up, female, years)
    brows = _brows(rng, side, up, female) * np.clip(0.85 + 0.18 * fine + 0.12 * coarse, 0.2, 1)
    colour += brows[..., None] * (np.minimum(hair * 0.75, skin * 0.55) - colour)

    bald = bool(not female and rng.random() < 0.15 + 0.2 * (years > 50))
    scalp = _scalp(rng, side, up, female, bald, coarse)
    beard = _beard(rng, side, up, coarse) if not female and rng.random() < 0.55 else np.zeros_like(scalp)
    strands = 1 + 0.35 * smooth_noise(rng, TEXTURE_SIZE, (24, 150)) + 0.15 * fine
    hairs = np.maximum(scalp, beard * np.clip(1 + 0.25 * fine, 0, 1))
    colour += hairs[..., None] * (hair * np.clip(strands, 0.4, 1.7)[..., None] - colour)

    height = _relief(rng, years, fine) + (brows + scalp) * (0.0005 + 0.0003 * fine)
    texture = np.concatenate([np.clip(colour, 0.002, 1), np.maximum(scalp, beard * 0.6)[..., None]], axis=2)
    return texture.astype(np.float32), height.astype(np.float32), bald


def _tone(
    rng: np.random.Generator, skin: Floats, across: Floats, up: Floats, female: bool, years: float
) -> Floats:
    """Bare skin (n, n, 3): mottled, redder on cheeks and nose, darker round the eyes, with moles."""
    side = np.abs(across)
    mottle = 0.03 * smooth_noise(rng, TEXTURE_SIZE, (14, 14)) + 0.025 * smooth_noise(
        rng, TEXTURE_SIZE, (80, 80)
    )
    colour = skin * (1 + mottle[..., None])
    blush = _spot(side, up, 4.2, -3.2, 2.4, 1.8) + _spot(side, up, 0, -3.4, 1.4, 1.2)
    colour *= 1 - rng.uniform(0.03, 0.18) * blush[..., None] * np.array([0.1, 1.0, 0.9], np.float32)
    shadow = _spot(side, up, 3.0, -1.3, 1.6, 0.6) * rng.uniform(0.0, 0.22 + years / 400)
    shadow = shadow + _spot(side, up, 2.6, 0.9, 1.5, 0.7) * rng.uniform(0.05, 0.3 if female else 0.15)
    colour *= 1 - shadow[..., None] * np.array([0.8, 1.0, 0.9], np.float32)
    for _ in range(int(rng.integers(0, 5))):
        radius = rng.uniform(0.08, 0.2)
        mole = _spot(across, up, rng.uniform(-7, 7), rng.uniform(-9, 7), radius, radius)
        colour *= 1 - 0.6 * mole[..., None]
    return np.asarray(colour, np.float32)


def _scalp(
    rng: np.random.Generator, side: Floats, up: Floats, female: bool, bald: bool, uneven: Floats
) -> Floats:
    """Share of hair (n, n) above the hairline, which falls to the sideburns."""
    if bald:
        line: Floats = rng.uniform(8.4, 9.5) + np.where(side > 6.5, -7.0, 0.0)
    else:
        shape = (0, 3, 5.5, 6.6, 7.6, 8.6, 10), (0.0, 0.1, -0.5, -2.6, -5.5, -7.0, -8.5)
        line = rng.uniform(5.9, 7.0) + (0.0 if female else 0.3) + np.interp(side, *shape)
    return _step(up - line.astype(np.float32) + np.float32(rng.uniform(0.05, 0.3)) * uneven, 0.7)


def _beard(rng: np.random.Generator, side: Floats, up: Floats, uneven: Floats) -> Floats:
    """Share of hair (n, n) on jaw and upper lip: stubble mostly, at times a full beard."""
    jaw = _step(-5.9 - up + 0.55 * np.maximum(side - 2.2, 0) + 0.15 * uneven, 1.0)
    moustache = _step(-4.75 - up, 0.4) * _step(2.9 - side, 0.6)
    mouth = _spot(side, up, 0, -6.7, 2.1, 0.9)
    density = rng.uniform(0.12, 0.45) if rng.random() < 0.7 else rng.uniform(0.6, 0.85)
    return np.asarray(density * np.maximum(jaw, moustache) * (1 - mouth) * _step(9.5 - side, 1.0), np.float32)


def _relief(rng: np.random.Generator, years: float, fine: Floats) -> Floats:
    """Pores, bags under the eyes, and the furrows that a face keeps with age, (n, n) in metres."""
    height = 0.00004 * fine + 0.00006 * smooth_noise(rng, TEXTURE_SIZE, (60, 60))
    ageing = np.interp(years, (30, 78), (0.0, 0.45))
    for au in (1, 2, 4, 6, 10, 12):
        rows, columns, folds = groove_maps()[au]
        height[rows, columns] += np.float32(ageing * rng.uniform(0.1, 1.0)) * folds
    height += np.float32(rng.uniform(0, 0.00035)) * groove(((1.9, -1.0), (3.1, -1.35), (4.4, -1.0)), 0.15)
    return np.asarray(height, np.float32)


def _brows(rng: np.random.Generator, side: Floats, up: Floats, female: bool) -> Floats:
    """Density of brow hair in [0, 1]."""
    inner, outer = rng.uniform(1.0, 1.5), rng.uniform(4.9, 5.6)
    arch, lift = rng.uniform(0.15, 0.75), rng.uniform(1.65, 2.1)
    thick = rng.uniform(0.22, 0.42) if female else rng.uniform(0.32, 0.6)
    t = np.clip((side - inner) / (outer - inner), 0, 1)
    centre = lift + arch * np.sin(np.pi * np.clip(t * 0.8, 0, 1)) - 0.35 * t**3
    half = thick * np.interp(t, (0, 0.25, 0.65, 1), (0.85, 1.0, 0.8, 0.25))
    ends = _step(side - inner, 0.5) * _step(outer - side, 0.5)
    density = rng.uniform(0.6, 0.95)
    return np.asarray(density * ends * _step(half - np.abs(up - centre), 0.35), np.float32)
