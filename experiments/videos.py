"""Writes videos, for the scripts beside it and for the tests."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

_MILLISECONDS = Fraction(1, 1000)


def write_video(
    file: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    fps: float = 25,
    rotation: int = 0,
    **options: str,
) -> Path:
    """Encodes RGB frames.

    Args:
        file: Its suffix names the container.
        frames: (H, W, 3) each.
        times: Seconds of each frame; None: ``fps`` a second.
        codec: Of FFmpeg; "ffv1" loses nothing.
        fps: Frames a second.
        rotation: Degrees, counter-clockwise, by which the file says that its frames are to be turned.
        **options: Of the codec, such as crf, or of the container: movflags.
    """
    whole = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(file), "w", options=whole) as container:
        stream = container.add_stream(codec, rate=round(fps), options=options)
        stream.pix_fmt = {"ffv1": "bgr0", "gif": "rgb8"}.get(codec, "yuv420p")
        stream.codec_context.time_base = _MILLISECONDS
        for number, pixels in enumerate(frames):
            if not number:
                stream.height, stream.width = pixels.shape[:2]
                if rotation:
                    stream.set_display_rotation(rotation)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            seconds = number / fps if times is None else times[number]
            frame.pts, frame.time_base = round(seconds * 1000), _MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file
