"""Decodes pictures into uint8 arrays that are there already: JPEG by libjpeg-turbo, PNG and BMP by Pillow."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from aunet.data.faults import PictureError

_JPEG = b"\xff\xd8"
_END = b"\xff\xd9"
_PRINT = ("CMYK", "YCCK")
_FORMATS = {b"\x89PNG": "PNG", b"BM": "BMP"}
_LARGEST = 1 << 26
"""Pixels of the largest picture that is decoded: what claims to be larger is damaged, or an attack."""


def picture_format(data: bytes) -> str | None:
    """JPEG, PNG or BMP, by content; None for anything else."""
    if data.startswith(_JPEG):
        return "JPEG"
    return next((name for magic, name in _FORMATS.items() if data.startswith(magic)), None)


def is_grey(data: bytes) -> bool:
    """Whether a picture that can be decoded has no colours."""
    if picture_format(data) == "JPEG":
        return bool(simplejpeg.decode_jpeg_header(data)[2] == "Gray")
    with Image.open(io.BytesIO(data)) as image:
        return image.mode != "RGB"


def decode_into(
    data: bytes, out: npt.NDArray[np.uint8], place: Callable[[], str], resize: bool = False
) -> None:
    """Decodes a picture into ``out``, RGB.

    Args:
        data: A JPEG, PNG or BMP file.
        out: (H, W, 3) uint8, contiguous.
        place: Gives the picture's name for messages; not called for a good one.
        resize: Resample a picture of another size (bilinear, antialiased) instead of refusing it.

    Raises:
        PictureError: It is damaged, not 8-bit RGB or grey, or of another size.
    """
    try:
        done = _decode_plain_jpeg(data, out)
    except ValueError:
        done = False
    if not done:
        _decode_with_care(data, out, place(), resize)


def _decode_plain_jpeg(data: bytes, out: npt.NDArray[np.uint8]) -> bool:
    """Decodes a JPEG of the right size, written into the batch itself; whether it is one."""
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if (height, width) != out.shape[:2] or colours in _PRINT:
        return False
    simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
    return True


def _decode_with_care(data: bytes, out: npt.NDArray[np.uint8], place: str, resize: bool) -> None:
    """Decodes what is no JPEG of the right size, or says what it is."""
    if not data:
        raise PictureError(place, "empty-picture", "the file is empty")
    kind = picture_format(data)
    if kind is None:
        raise PictureError(place, "not-a-picture", "not a readable JPEG, PNG or BMP")
    if kind != "JPEG":
        _decode_with_pillow(data, kind, out, place, resize)
        return
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in _PRINT:
            raise PictureError(place, "colour-mode", f"its colours are {colours}")
        _check_size(width, height, out, place, resize)
        _resample(Image.fromarray(simplejpeg.decode_jpeg(data, colorspace="RGB")), out)
    except PictureError:
        raise
    except ValueError as error:
        raise PictureError(place, "damaged-picture", f"not a readable JPEG ({error})") from None


def _decode_with_pillow(data: bytes, kind: str, out: npt.NDArray[np.uint8], place: str, resize: bool) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.mode not in ("RGB", "L", "1"):
                raise PictureError(place, "colour-mode", f"its colours are {image.mode}")
            _check_size(*image.size, out, place, resize)
            _resample(image.convert("RGB"), out)
    except PictureError:
        raise
    except Exception as error:  # Pillow's decoders: OSError, SyntaxError, ValueError and others
        raise PictureError(place, "damaged-picture", f"not a readable {kind} ({error})") from None


def check_jpeg(data: bytes, size: tuple[int, ...], place: str) -> None:
    """Refuses what ``decode_into`` would refuse, as far as it shows without decoding.

    Args:
        data: A file that is to be decoded elsewhere.
        size: (H, W) that it must have.
        place: How messages name the picture.

    Raises:
        PictureError: It is no whole RGB or grey JPEG of that size.
    """
    if not data:
        raise PictureError(place, "empty-picture", "the file is empty")
    if picture_format(data) != "JPEG":
        raise PictureError(place, "not-a-picture", "no JPEG, which data.decode=cuda asks for")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise PictureError(place, "damaged-picture", f"not a readable JPEG ({error})") from None
    if colours in _PRINT:
        raise PictureError(place, "colour-mode", f"its colours are {colours}")
    _check_size(width, height, np.empty((*size, 0), np.uint8), place, resize=False)
    if _END not in data:
        raise PictureError(place, "damaged-picture", "not a readable JPEG (it has no end)")


def _check_size(width: int, height: int, out: npt.NDArray[np.uint8], place: str, resize: bool) -> None:
    if (height, width) != out.shape[:2] and (not resize or width * height > _LARGEST):
        reason = f"{width}x{height} pixels where data.image_size says {out.shape[1]}x{out.shape[0]}"
        raise PictureError(place, "wrong-size", reason)


def _resample(image: Image.Image, out: npt.NDArray[np.uint8]) -> None:
    size = out.shape[1], out.shape[0]
    out[...] = np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))
