"""Reads videos as a stream of frames, by FFmpeg's libraries that come with PyAV."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.predict.frames import Frame, InputError, check_size, shown

_BATCH_FRAMES = 16
_BATCH_BYTES = 48 * 2**20

_SHORTER = 0.25
"""Seconds that a video may end before its header says, until it counts as cut off."""


def read_video(path: Path, read: Callable[[int], object] = lambda position: None) -> Iterator[list[Frame]]:
    """The frames of a video, in batches of one size; in constant memory, whatever the video's length.

    Time stamps are those of the file, also where the distance between frames changes, less the time at which
    the file begins. Turned frames are set upright. Of what the header says of the number of frames nothing is
    believed.

    Args:
        path: Of a file in any format that FFmpeg knows, by its content.
        read: Is told how many bytes of the file have been read.

    Yields:
        Lists of frames, none of them empty.

    Raises:
        InputError: It is no video, or could not be read to its end; frames up to there were given before.
    """
    name = shown(path)
    try:
        import av
    except ModuleNotFoundError:
        raise InputError(name, "no picture; videos need the package av: install aunet[predict]") from None
    with path.open("rb") as file:
        # Nameless, and without leave to open more: FFmpeg takes names for protocols, for patterns of further
        # files and for formats, and playlists name what is not ours to read.
        content = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell, seekable=file.seekable)
        try:
            container = av.open(
                content, "r", options={"protocol_whitelist": "none"}, metadata_errors="ignore"
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            raise InputError(name, f"no picture, and no video that can be read ({_said(error)})") from None
        with container:
            frames = _Frames(container, name)
            batch: list[Frame] = []
            for frame in frames:
                if batch and (frame.pixels.shape != batch[0].pixels.shape or _is_full(batch)):
                    yield batch
                    batch = []
                batch.append(frame)
                read(file.tell())
            if batch:
                yield batch
            problem = frames.problem()
    if problem:
        raise InputError(name, problem)


def _is_full(batch: list[Frame]) -> bool:
    return len(batch) >= _BATCH_FRAMES or len(batch) * batch[0].pixels.nbytes >= _BATCH_BYTES


class _Frames:
    """The frames of an open container's video, and what went wrong with them.

    Args:
        container: PyAV's.
        name: For messages.

    Raises:
        InputError: It holds no video.
    """

    def __init__(self, container: Any, name: str) -> None:
        import av

        self.container = container
        self.name = name
        videos = [
            stream
            for stream in container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic  # the cover of a song
        ]
        if not videos:
            what = "holds sound only" if container.streams.audio else "holds no video"
            raise InputError(name, f"{what}: there is no face to be seen")
        self.stream = videos[0]
        if self.stream.codec_context is None:
            raise InputError(name, "FFmpeg has no decoder for its video: convert it, for instance to H.264")
        if said := self.stream.codec_context.width:  # before a decoder takes the memory for it
            check_size(name, said, self.stream.codec_context.height)
        self.stream.thread_type = "AUTO"
        self.count = 0
        self.end = 0.0
        self.damaged = 0
        self.error: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        step = float(1 / self.stream.average_rate) if self.stream.average_rate else 0.04
        start = (self.container.start_time or 0) / 1e6
        seconds = -step
        for frame in self._decoded():
            width, height = self._shape(frame)
            check_size(self.name, width, height)
            stamp = frame.pts if frame.pts is not None else frame.dts
            known = stamp is not None and frame.time_base is not None
            seconds = float(stamp * frame.time_base) - start if known else seconds + step
            self.damaged += frame.is_corrupt
            self.count += 1
            self.end = seconds + (float(frame.duration * frame.time_base) if frame.duration else step)
            pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
            yield Frame(self.count, seconds, _upright(pixels, frame.rotation))

    def _shape(self, frame: Any) -> tuple[int, int]:
        """Width and height in square pixels: those of old formats are wider or narrower than high."""
        wide = float(self.stream.sample_aspect_ratio or 1)
        return (
            (round(frame.width * wide), frame.height)
            if wide >= 1
            else (frame.width, round(frame.height / wide))
        )

    def _decoded(self) -> Iterator[Any]:
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:  # what can be read of the file ends here
                self.error = _said(error)
                yield from self._decode(None)
                return
            if packet is None:
                return
            self.damaged += packet.is_corrupt
            yield from self._decode(packet)

    def _decode(self, packet: Any) -> list[Any]:
        """Frames that a packet completes; of None, those that the decoder still holds."""
        import av

        try:
            return list(packet.decode() if packet else self.stream.codec_context.decode(None))
        except av.EOFError:  # it holds none
            return []
        except av.FFmpegError as error:
            self.damaged += 1
            self.error = self.error or _said(error)
            return []

    def problem(self) -> str | None:
        """What to say of the video at its end; None if all was well."""
        if not self.count:
            return f"no frame can be decoded ({self.error or 'it holds none'})"
        said, told = None, self._told()
        if told is not None and told - self.end > _SHORTER:
            said = f"cut off: its header tells of {told:.2f} s"
        elif self.damaged:
            said = f"damaged in places ({self.damaged} found)"
        elif self.error:
            said = f"cannot be read to its end ({self.error})"
        return said and f"{said}; its {self.count} frames up to {self.end:.2f} s are kept"

    def _told(self) -> float | None:
        """Seconds that the video lasts, as the file says; None if it does not say it of this stream."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        parts = self.stream.metadata.get("DURATION", "").split(":")  # Matroska's, 00:00:02.000000000
        if len(parts) == 3 and all(part.replace(".", "", 1).isdecimal() for part in parts):
            return sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
        alone = len(self.container.streams) == 1 and self.container.duration
        return self.container.duration / 1e6 if alone else None


def _upright(pixels: npt.NDArray[Any], rotation: int) -> npt.NDArray[np.uint8]:
    """A frame turned by what the file says, counter-clockwise in degrees."""
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else np.asarray(pixels, np.uint8)


def _said(error: Exception) -> str:
    """FFmpeg's words for an error."""
    return str(getattr(error, "strerror", None) or error)
