"""People: a face shape, colours, skin, brows and hair for each, drawn from one random generator."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from aunet.data.rendered.head import Floats, Head
from aunet.data.rendered.raster import vertex_normals
from aunet.data.rendered.shading import TEXEL, TEXTURE_LEFT, TEXTURE_SIZE, TEXTURE_TOP
from aunet.data.rendered.skin import linear, paint_skin

Rgb = tuple[int, int, int]
"""sRGB in [0, 255]."""

ANCESTRIES = ("african", "asian", "caucasian")
MAIN_ANCESTRY = 0.78
"""Share of a person's main ancestry; all three have a part in the rest."""
AGE_YEARS = (18.0, 78.0)
YOUNG_YEARS, OLD_YEARS = 25.0, 90.0
"""Ages that the mesh's "young" and "old" shapes stand for."""
LOCAL_SPREAD = 0.30
"""Standard deviation of each local shape change, in units of the full change."""
NOT_FACES = (
    "head-trans", "head-angle", "head-back", "head-age", "head-scale", "nose-trans-in", "nose-trans-out",
    "mouth-trans-in", "mouth-trans-out", "mouth-trans-backward", "mouth-trans-forward", "mouth-laugh",
    "mouth-dimples", "eye-push", "eye-scale-decr", "eye-trans", "eye-height", "ear-trans", "ear-rot",
    "ear-shape", "nose-compression",
)  # fmt: skip
"""Local changes left out: they move the whole head, break its symmetry or look like an expression."""

OUTLINE_SHARE = 0.45
"""Of the spread, for the outlines of the head: there are seven, round to square, that add up."""

SKIN_TONES: tuple[tuple[float, Rgb], ...] = (
    (0.0, (243, 208, 188)),
    (0.3, (224, 172, 138)),
    (0.6, (160, 108, 78)),
    (1.0, (72, 46, 36)),
)
"""Colour of the skin at a given melanin in [0, 1]."""
MELANIN = {"african": 0.78, "asian": 0.30, "caucasian": 0.13}
DARK_FEATURES = 0.28
"""Melanin from which on hair and eyes are dark."""
HAIR_COLOURS: dict[str, Rgb] = {
    "black": (20, 17, 16),
    "dark brown": (44, 30, 23),
    "brown": (82, 55, 36),
    "blond": (172, 136, 88),
    "red": (122, 58, 30),
}
GREY_HAIR: Rgb = (176, 174, 171)
HAIR_THICKNESS = (0.004, 0.022)
"""Range in metres."""
HAIR_EDGE = 16
"""Texels within which hair reaches its full thickness from the hairline in."""
IRIS_COLOURS: dict[str, Rgb] = {
    "brown": (98, 60, 34),
    "dark": (62, 38, 24),
    "hazel": (104, 84, 46),
    "blue": (104, 138, 168),
    "green": (98, 118, 88),
}
LIPSTICKS: tuple[Rgb, ...] = ((150, 30, 45), (180, 60, 80), (120, 40, 50), (196, 90, 90))
FRAMES: tuple[Rgb, ...] = ((25, 22, 22), (90, 55, 35), (150, 150, 155), (60, 30, 40))
GLASSES_CHANCE = 0.12


@dataclass(frozen=True)
class Person:
    """What stays the same about a person. Colours are linear light.

    Attributes:
        vertices: (V, 3) the neutral face, in metres.
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 4) skin colour and how much of a texel is hair.
        height: (TEXTURE_SIZE, TEXTURE_SIZE) relief of the skin at rest, in metres.
        palette: (7, 3) see ``shading.shade``.
        gloss: shine of skin and of lips, and its exponent.
        wrinkling: how deep this person's skin folds, 1 on average.
        long_hair: (r, g, b) of hair hanging down behind the face, or None.
        glasses: (r, g, b, half-width of the frame in metres, size relative to average), or None.
        description: what the truth files tell, e.g. age in years.
    """

    vertices: Floats
    texture: Floats
    height: Floats
    palette: Floats
    gloss: tuple[float, float, float]
    wrinkling: float
    long_hair: tuple[float, float, float] | None
    glasses: tuple[float, float, float, float, float] | None
    description: dict[str, float]


def make_person(head: Head, rng: np.random.Generator) -> Person:
    """Draw a person."""
    female = bool(rng.random() < 0.5)
    years = float(rng.uniform(*AGE_YEARS))
    weight = float(np.clip(rng.normal(0.0, 0.5), -1, 1))
    main = np.eye(len(ANCESTRIES))[rng.integers(len(ANCESTRIES))]
    shares = MAIN_ANCESTRY * main + (1 - MAIN_ANCESTRY) * rng.dirichlet((0.5, 0.5, 0.5))
    melanin = sum(float(share) * MELANIN[name] for name, share in zip(ANCESTRIES, shares, strict=True))
    melanin = float(np.clip(melanin + rng.normal(0, 0.09), 0, 1))

    vertices = _shape(head, rng, female, years, weight, shares)
    skin, hair = _skin_colour(rng, melanin), _hair_colour(rng, melanin, years)
    texture, height, bald = paint_skin(rng, skin, hair, female, years)
    _grow_hair(head, vertices, texture, 0.002 if bald else float(rng.uniform(*HAIR_THICKNESS)))
    hangs = not bald and rng.random() < (0.65 if female else 0.04)
    return Person(
        vertices=vertices,
        texture=texture,
        height=height,
        palette=_palette(rng, skin, hair, melanin, female),
        gloss=(float(rng.uniform(0.04, 0.16)), float(rng.uniform(0.1, 0.3)), float(rng.uniform(12, 30))),
        wrinkling=float(np.interp(years, AGE_YEARS, (0.75, 1.35)) * rng.uniform(0.85, 1.15)),
        long_hair=(float(hair[0]), float(hair[1]), float(hair[2])) if hangs else None,
        glasses=_glasses(rng) if rng.random() < GLASSES_CHANCE else None,
        description={
            "female": float(female),
            "age_years": years,
            "weight": weight,
            "melanin": melanin,
            **{name: float(share) for name, share in zip(ANCESTRIES, shares, strict=True)},
        },
    )


def _shape(
    head: Head, rng: np.random.Generator, female: bool, years: float, weight: float, shares: Floats
) -> Floats:
    """The neutral face (V, 3): a blend of sexes, ages, builds and ancestries, and local changes."""
    old = float(np.clip((years - YOUNG_YEARS) / (OLD_YEARS - YOUNG_YEARS), 0, 1))
    femininity = float((0.85 if female else 0.15) + rng.uniform(-0.15, 0.15))
    build = "maxweight" if weight > 0 else "minweight"
    vertices = head.vertices.copy()
    for sex, sex_share in (("female", femininity), ("male", 1 - femininity)):
        for age, age_share in (("young", 1 - old), ("old", old)):
            share = np.float32(sex_share * age_share)
            for name, part in zip(ANCESTRIES, shares, strict=True):
                vertices += share * np.float32(part) * head.ancestry[f"{name}-{sex}-{age}"]
            vertices += share * np.float32(1 - abs(weight)) * head.build[f"{sex}-{age}-averageweight"]
            vertices += share * np.float32(abs(weight)) * head.build[f"{sex}-{age}-{build}"]
    for name, offsets in head.local.items():
        amount = float(np.clip(rng.normal(0.0, LOCAL_SPREAD), 0, 0.8))
        if name.startswith("head-"):
            amount *= OUTLINE_SHARE
        if amount > 0 and not name.startswith(NOT_FACES):
            vertices += np.float32(amount) * offsets
    return vertices


def _choose(rng: np.random.Generator, options: Sequence[Rgb]) -> Rgb:
    return options[int(rng.integers(len(options)))]


def _skin_colour(rng: np.random.Generator, melanin: float) -> Floats:
    at, tones = zip(*SKIN_TONES, strict=True)
    return linear(
        [np.interp(melanin, at, channel) + rng.normal(0, 3) for channel in zip(*tones, strict=True)]
    )


def _hair_colour(rng: np.random.Generator, melanin: float, years: float) -> Floats:
    dark = [HAIR_COLOURS[name] for name in ("black", "black", "dark brown")]
    colour = np.array(_choose(rng, dark if melanin > DARK_FEATURES else list(HAIR_COLOURS.values())))
    grey = float(np.clip((years - 45) / 30 + rng.normal(0, 0.25), 0, 0.95)) if years > 38 else 0.0
    return linear(colour + (np.array(GREY_HAIR) - colour) * grey) * np.float32(rng.uniform(0.8, 1.2))


def _palette(rng: np.random.Generator, skin: Floats, hair: Floats, melanin: float, female: bool) -> Floats:
    """Colours (7, 3): as shading.shade names them."""
    painted = female and rng.random() < 0.3
    lips = linear(_choose(rng, LIPSTICKS)) if painted else skin * (0.80, 0.50, 0.52) * rng.uniform(0.85, 1.1)
    irises = ("dark", "brown") if melanin > DARK_FEATURES else ("brown", "hazel", "blue", "blue", "green")
    return np.stack(
        [
            lips,
            linear(_choose(rng, [IRIS_COLOURS[name] for name in irises])) * rng.uniform(0.7, 1.2),
            linear((226, 219, 213)) * rng.uniform(0.85, 1.0),
            linear((232, 224, 205)) * rng.uniform(0.8, 1.0),
            linear((168, 62, 66)),
            np.minimum(hair, linear((45, 35, 30))) if female else hair * 0.5 + skin * 0.25,
            skin,
        ]
    ).astype(np.float32)


def _glasses(rng: np.random.Generator) -> tuple[float, float, float, float, float]:
    r, g, b = map(float, linear(_choose(rng, FRAMES)))
    return r, g, b, float(rng.uniform(0.0008, 0.0022)), float(rng.uniform(0.9, 1.1))


def _grow_hair(head: Head, vertices: Floats, texture: Floats, thickness: float) -> None:
    """Lift the scalp by the hair's thickness in metres, in place."""
    # Half of the surroundings are hair on the hairline, all of them further in: the edge is round, no cap's.
    share = Image.fromarray(np.uint8(np.rint(255 * texture[..., 3]))).filter(ImageFilter.BoxBlur(HAIR_EDGE))
    column = np.clip((head.uv[:, 0] - TEXTURE_LEFT) / TEXEL, 0, TEXTURE_SIZE - 1).astype(int)
    row = np.clip((TEXTURE_TOP - head.uv[:, 1]) / TEXEL, 0, TEXTURE_SIZE - 1).astype(int)
    inside = np.clip(np.asarray(share, np.float32)[row, column] / 127.5 - 1, 0, 1)
    above = np.clip((head.uv[:, 1] + 0.02) / 0.05, 0, 1)
    hairy = inside * above * (1 - head.ear) * head.scalp
    vertices += (np.float32(thickness) * hairy)[:, None] * vertex_normals(vertices, head.triangles)
