"""Writes pictures and videos with what was predicted laid over them."""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from aunet.data.loader import ahead
from aunet.drawing.attend import Attention
from aunet.drawing.rows import Places, Rows, by_frame, extent, seen
from aunet.drawing.sheet import Sheet
from aunet.files import check_place, replacing
from aunet.predict import InputError, Predictor
from aunet.predict.frames import Frame, shown
from aunet.predict.images import read_picture
from aunet.predict.video import read_video
from aunet.progress import progress

PICTURES, VIDEOS = (".png", ".jpg", ".jpeg"), (".mp4",)

_TICKS = 10_000
"""Of a second: what time stamps are counted in. Of finer ones MP4 holds no pause of some hours."""

_OPTIONS = {"preset": "veryfast", "crf": "20"}


def check_overlay(out: Path, file: Path) -> None:
    """Refuses what could not be written, before any work is done.

    Raises:
        ValueError: The suffix of the overlay is not one for that file, or there is no folder for it.
        OSError: The file cannot be read.
    """
    is_picture = read_picture(file) is not None
    suffixes = PICTURES if is_picture else VIDEOS
    if out.suffix.lower() not in suffixes:
        kind = "picture" if is_picture else "video"
        raise ValueError(f"{out}: the overlay of a {kind} must end in {' or '.join(suffixes)}")
    check_place(out)


def draw_overlay(
    out: Path,
    file: Path,
    rows: Callable[[], Iterator[Rows]],
    predictor: Predictor,
    thresholds: npt.NDArray[np.floating],
    crops: bool = False,
) -> None:
    """Writes an overlay: boxes with the faces' numbers, their AUs, and what the network attended to.

    A video has the time stamps of the file and no sound.

    Args:
        out: .png or .jpg of a picture, .mp4 of a video; takes its place when it is whole.
        file: What was predicted.
        rows: Gives its records in chunks, from the beginning at each call.
        predictor: Whose they are.
        thresholds: (num_aus,) from which on AUs count as present.
        crops: Frames are aligned crops.

    Raises:
        InputError: The file cannot be read any more, or FFmpeg cannot write what is drawn.
    """
    found, attention = extent(rows()), Attention(predictor)

    def sheet_for(pixels: npt.NDArray[np.uint8]) -> Sheet:
        height, width = pixels.shape[:2]
        side, attends = predictor.image_size, attention.attends
        return Sheet((width, height), predictor.aus, thresholds, found.places, attends, side, crops)

    places = Places()

    def drawn(sheet: Sheet, pixels: npt.NDArray[np.uint8], of_frame: Rows) -> Image.Image:
        maps = attention.maps(pixels, of_frame[seen(of_frame, crops)], crops)
        return sheet.draw(pixels, of_frame, places.of(of_frame), maps)

    picture = read_picture(file)
    if picture is not None:
        with replacing(out) as temporary:
            drawn(sheet_for(picture), picture, next(by_frame(rows()))).save(temporary, quality=92)
        return
    import av

    with replacing(out) as temporary, progress("drawing", found.frames, "frames") as advance:
        sheet, count = None, 0
        try:
            with contextlib.closing(_Film(temporary)) as film:
                for frame, of_frame in zip(_frames(file), by_frame(rows()), strict=False):
                    sheet = sheet or sheet_for(frame.pixels)
                    film.add(drawn(sheet, frame.pixels, of_frame), frame.seconds)
                    count += 1
                    advance(1)
        except av.FFmpegError as error:  # of sizes and pauses that the format does not hold
            raise InputError(shown(out), f"cannot be written ({error.strerror or error})") from None
        if count < found.frames:
            raise InputError(shown(file), f"only {count} of {found.frames} frames could be read again")


def _frames(file: Path) -> Iterator[Frame]:
    """The frames of a video, as far as it can be read: what is wrong was said when it was predicted."""
    with contextlib.suppress(InputError):
        for batch in ahead(read_video(file)):
            yield from batch


class _Film:
    """Writes a video frame by frame.

    Args:
        path: Of the MP4 file.
    """

    def __init__(self, path: Path) -> None:
        import av

        self._container: Any = av.open(str(path), "w", format="mp4")
        self._stream: Any = None
        self._last = -1

    def add(self, picture: Image.Image, seconds: float) -> None:
        """Adds a frame; one whose time is not behind that of the frame before comes right after it."""
        import av

        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=30, options=_OPTIONS)
            self._stream.width, self._stream.height = picture.size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, _TICKS)
        frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        self._last = max(self._last + 1, round(seconds * _TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes what is still held back."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
