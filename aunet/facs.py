"""Facial Action Units: numbers, names, facial regions, and the AU columns of each data set.

Numbers and names follow the Facial Action Coding System (Ekman and Friesen, 1978). Imports nothing.
"""

NAMES: dict[int, str] = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    17: "chin raiser",
    20: "lip stretcher",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
}
"""FACS name of each Action Unit that a supported data set labels."""

AFFWILD2: tuple[int, ...] = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
"""The AUs of the ABAW challenges from 2021 on, in the column order of their annotation files."""

DISFA: tuple[int, ...] = (1, 2, 4, 6, 9, 12, 25, 26)
"""The AUs of DISFA that published three-fold figures are about (JAA-Net, ME-GraphAU)."""

DISFA_CODED: tuple[int, ...] = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
"""All AUs that DISFA's annotations hold."""

BP4D: tuple[int, ...] = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
"""The AUs of BP4D that published three-fold figures are about (JAA-Net, ME-GraphAU)."""

CROP_SIZE = 112
"""Side of an aligned face crop, in pixels."""

TEMPLATE: tuple[tuple[float, float], ...] = (
    (38.29, 51.70),
    (73.53, 51.50),
    (56.03, 71.74),
    (41.55, 92.37),
    (70.73, 92.20),
)
"""Where alignment puts the five landmarks in a 112x112 crop, (x, y) in pixels: the eye on the image's left,
the other eye, nose tip, the mouth corner on the image's left, the other mouth corner."""

REGIONS: dict[int, tuple[tuple[float, float, float, float], ...]] = {
    1: ((26, 18, 86, 52),),
    2: ((16, 20, 96, 52),),
    4: ((20, 16, 92, 54),),
    6: ((16, 46, 96, 88),),
    7: ((22, 44, 90, 68),),
    10: ((30, 54, 82, 98),),
    12: ((24, 58, 88, 106),),
    15: ((28, 70, 84, 110),),
    23: ((34, 70, 78, 108),),
    24: ((28, 70, 84, 110),),
    25: ((34, 72, 78, 110),),
    26: ((26, 72, 86, 112),),
}
"""Facial region in which each AU shows, as boxes (x0, y0, x1, y1) in pixels of a frontal aligned crop.

Measured on rendered faces: over 70% of what an AU alone changes in the picture lies in its boxes."""


def au_column(au: int) -> str:
    """Column name of an AU in annotation files and metric keys: ``au_column(1) == "AU1"``."""
    return f"AU{au}"
