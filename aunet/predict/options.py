"""How inputs are looked at, and what has become of them."""

from dataclasses import dataclass
from pathlib import Path

from aunet.predict.detect import CELL, SMALLEST

_MOST = 1_000_000


@dataclass(frozen=True)
class Options:
    """How inputs are looked at.

    Attributes:
        crops: Pictures and videos are aligned crops of the network's size; no face is looked for.
        split: Of a data set: "train", "val" or "test".
        detect_every: In videos, look for new faces in every so many frames, and follow the known ones in
            between.
        min_face: Side in pixels of the smallest face to look for.
        batch_size: Crops that go through the network at once.
        fps: Of a data set: frames per second, which give its frames their times; None: they have none.

    Raises:
        ValueError: A number is too small or too large.
    """

    crops: bool = False
    split: str = "val"
    detect_every: int = 1
    min_face: float = SMALLEST
    batch_size: int = 64
    fps: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("detect_every", 1), ("min_face", CELL), ("batch_size", 1)):
            value = getattr(self, name)
            if not least <= value <= _MOST:
                raise ValueError(f"{name}={value} must be from {least} to {_MOST}")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"fps={self.fps} must be more than 0")


DEFAULTS = Options()


@dataclass(frozen=True)
class Report:
    """What has been predicted.

    Attributes:
        out: The file; None if there was nothing to write.
        inputs: Number of pictures, videos and data sets.
        rows: Number of rows.
        problems: One line for each input that could not be used, or not to its end.
    """

    out: Path | None
    inputs: int
    rows: int
    problems: tuple[str, ...]
