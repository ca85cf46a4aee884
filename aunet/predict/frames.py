"""What all kinds of input become: frames, and errors in one line."""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aunet.data.faults import one_line

MOST_PIXELS = 1 << 26
"""Of the largest picture or frame that is decoded: what claims to be larger is damaged, or an attack."""


@dataclass(frozen=True)
class Frame:
    """A picture, or a frame of a video.

    Attributes:
        number: From 1.
        seconds: Since the beginning of the video; NaN of a picture.
        pixels: (H, W, 3) RGB in [0, 255].
    """

    number: int
    seconds: float
    pixels: npt.NDArray[np.uint8]


class InputError(ValueError):
    """An input cannot be used, or not to its end; the message is one line that names it.

    Args:
        name: Of the input.
        detail: What is wrong, and what to do.
    """

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{one_line(name)}: {one_line(detail)}")


def shown(path: str | os.PathLike[str]) -> str:
    """A path as text that can be written anywhere: bytes of a name that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_size(name: str, width: int, height: int) -> None:
    """Refuses pictures that are too large or empty.

    Raises:
        InputError: They are.
    """
    if width < 1 or height < 1:
        raise InputError(name, f"{width}x{height} pixels: nothing can be seen in it")
    if width * height > MOST_PIXELS:
        raise InputError(name, f"{width}x{height} pixels are more than {MOST_PIXELS:,}: make it smaller")
