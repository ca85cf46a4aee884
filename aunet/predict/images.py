"""Reads pictures as they come from cameras and editors."""

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from aunet.predict.frames import InputError, check_size, shown

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
_ANIMATED = ("PNG", "WEBP", "GIF")
_MIRRORED = (2, 4, 5, 7)
"""EXIF orientations; of frames with EXIF data PyAV tells turns only."""
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


def read_picture(path: Path) -> npt.NDArray[np.uint8] | None:
    """A picture, upright and in RGB.

    Args:
        path: Of a file that begins as a picture does, whatever its name.

    Returns:
        (H, W, 3); None for what is no picture, or an animation: it may be a video.

    Raises:
        InputError: It is damaged, too large, or has colours that a conversion would change silently.
    """
    name = shown(path)
    if not path.stat().st_size:
        raise InputError(name, "the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes, which check_size tells, of odd metadata and palettes
        return _read(path, name)


def _read(path: Path, name: str) -> npt.NDArray[np.uint8] | None:
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise InputError(name, f"the picture is too large ({error})") from None
    except OSError as error:  # of the file system, or of a damaged head
        raise InputError(name, error.strerror or f"a damaged picture ({error})") from None
    except Exception as error:  # Pillow's readers raise SyntaxError, ValueError, IndexError and others
        raise InputError(name, f"a damaged picture ({error})") from None
    with image:
        try:
            if image.format in _ANIMATED and getattr(image, "is_animated", False):
                if image.format == "WEBP":  # the one of these that FFmpeg does not read
                    raise InputError(name, "an animated WebP: convert it to GIF, PNG or a video")
                if image.getexif().get(ExifTags.Base.Orientation, 1) in _MIRRORED:
                    raise InputError(name, "an animation that is to be shown mirrored: save it as it looks")
                return None
            check_size(name, *image.size)
            _check_colours(name, image)
            upright = ImageOps.exif_transpose(image)
            return np.array(upright.convert("RGB"))
        except InputError:
            raise
        except Exception as error:  # as above
            raise InputError(name, f"a damaged {image.format} picture ({error})") from None


def _check_colours(name: str, image: Image.Image) -> None:
    """Refuses what has to be converted by someone who knows how it was made."""
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        raise InputError(name, "a TIFF of several pages: save them one by one")
    # Of 16-bit colours Pillow would keep the upper half; it says so in how it reads them.
    if image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", "")):
        raise InputError(
            name, "a picture of 16 bits or more: convert it to 8 bits, as the training pictures are"
        )
    if image.mode not in _MODES:
        raise InputError(name, f"its colours are {image.mode}: convert it to RGB")
