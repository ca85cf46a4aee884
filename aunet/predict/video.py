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

_WIDEST = 8
"""Of a pixel, against its height, that is believed."""

_SHORTER = 0.25
"""Seconds that a video may end before its header says, until it counts as cut off; a tenth, if that is less,
where the header is exact."""

_PACKETS = 188, 192, 204
"""Bytes of a transport stream's packets: no header tells how long it lasts, but it ends with a whole one."""


def read_video(path: Path, read: Callable[[int], object] = lambda position: None) -> Iterator[list[Frame]]:
    """The frames of a video, in batches of one size; in constant memory, whatever the video's length.

    Time stamps are those of the file, also where the distance between frames changes, less the time at which
    the file begins; where they go back, as in recordings that were joined, they go on instead. Turned and
    mirrored frames are set upright. Of what the header says of the number of frames nothing is believed.

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
        if container.format.name.endswith("_pipe"):  # which take anything for one frame of a video
            form = container.format.name.removesuffix("_pipe")
            container.close()
            raise InputError(
                name, f"a picture that is damaged or that aunet does not read ({form}): save it as PNG"
            )
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
        if self.stream.disposition & av.stream.Disposition.dependent:  # HEIF and AVIF: each tile is a stream
            raise InputError(name, "a picture that is put together of tiles: convert it to JPEG or PNG")
        if self.stream.codec_context is None:
            raise InputError(name, "FFmpeg has no decoder for its video: convert it, for instance to H.264")
        if said := self.stream.codec_context.width:  # before a decoder takes the memory for it
            check_size(name, said, self.stream.codec_context.height)
        self.stream.thread_type = "AUTO"
        self.step = float(1 / self.stream.average_rate) if self.stream.average_rate else 0.04
        start = container.start_time
        self.begin = None if start is None else start / 1e6  # seconds of the file's clock
        self.count = 0
        self.end = 0.0
        self.damaged = 0
        self.error: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        import av

        step = self.step
        begin = self.begin
        seconds, known = -step, True
        rotation: int | None = None
        matrix: tuple[int, ...] = ()
        for frame in self._decoded():
            width, height = self._shape(frame)
            check_size(self.name, width, height)
            due = seconds + step
            # Without time stamps, AVI's way, frames follow each other: dts is in another order.
            known = known and frame.pts is not None and frame.time_base is not None
            stamp = float(frame.pts * frame.time_base) if known else due
            if begin is None:  # of a few frames FFmpeg does not tell it
                self.begin = begin = stamp if known else 0.0
            stamp -= begin if known else 0.0
            if stamp < seconds and self.count:
                begin -= due - stamp
                stamp = due
            try:
                pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
            except (av.FFmpegError, ValueError) as error:  # a format that cannot be converted
                self.error = _said(error)
                return
            seconds = stamp
            self.damaged += frame.is_corrupt
            self.count += 1
            self.end = seconds + (float(frame.duration * frame.time_base) if frame.duration else step)
            if frame.rotation != rotation:  # not of every frame: PyAV keeps some memory each time
                rotation, matrix = frame.rotation, _matrix(frame)
            yield Frame(self.count, seconds, _upright(pixels, matrix))

    def _shape(self, frame: Any) -> tuple[int, int]:
        """Width and height in square pixels: those of old formats are wider or narrower than high."""
        wide = float(self.stream.sample_aspect_ratio or 1)
        if not 1 / _WIDEST <= wide <= _WIDEST:  # nonsense
            wide = 1
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
        said, (told, exact) = None, self._told()
        shorter = min(_SHORTER, max(1.5 * self.step, told / 10)) if exact else _SHORTER
        if told - self.end > shorter:
            said = f"cut off: its header tells of {told:.2f} s"
        elif self.container.format.name == "mpegts" and all(self.container.size % size for size in _PACKETS):
            said = "cut off: it ends within a packet"
        elif self.damaged:
            said = f"damaged in places ({self.damaged} found)"
        elif self.error:
            said = f"cannot be read to its end ({self.error})"
        return said and f"{said}; its {self.count} frames up to {self.end:.2f} s are kept"

    def _told(self) -> tuple[float, bool]:
        """Seconds that the video lasts, as the file says, 0 if it does not; and whether to a frame or so."""
        # Matroska tells the time of the end, not how long it lasts: 00:00:02.000000000
        begin = (self.begin or 0.0) if "matroska" in self.container.format.name else 0.0
        parts = self.stream.metadata.get("DURATION", "").split(":")
        if len(parts) == 3 and all(part.replace(".", "", 1).isdecimal() for part in parts):
            hours, minutes, seconds = map(float, parts)
            return 3600 * hours + 60 * minutes + seconds - begin, True
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base), "mp4" in self.container.format.name
        alone = len(self.container.streams) == 1 and self.container.duration
        return (self.container.duration / 1e6 - begin if alone else 0.0), False


def _matrix(frame: Any) -> tuple[int, ...]:
    """How a frame is to be shown: (a, b, c, d), by which (x, y) becomes (a x + c y, b x + d y)."""
    try:
        stored = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of what may be beside it
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[round(frame.rotation / 90) % 4]
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(stored, np.int32).tolist()
    return a, b, c, d


def _upright(pixels: npt.NDArray[Any], matrix: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """A frame (H, W, 3) turned and mirrored by a matrix, to the nearest quarter of a turn."""
    a, b, c, d = matrix
    turned = abs(b) + abs(c) > abs(a) + abs(d)
    down, right = (b, c) if turned else (d, a)
    shown = pixels.swapaxes(0, 1) if turned else pixels
    return np.ascontiguousarray(shown[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _said(error: Exception) -> str:
    """FFmpeg's words for an error."""
    return str(getattr(error, "strerror", None) or error)
