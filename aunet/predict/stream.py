"""Predicts files one after another, in a stream of rows: they are read in a thread, the rest happens here."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aunet.data.faults import one_line
from aunet.data.loader import ahead
from aunet.metrics import THRESHOLD
from aunet.predict.faces import FaceFinder, Found, as_crops
from aunet.predict.frames import Frame, InputError
from aunet.predict.images import read_picture
from aunet.predict.inputs import FileInput
from aunet.predict.rows import empty_rows
from aunet.predict.track import Tracker
from aunet.predict.video import read_video

log = logging.getLogger(__name__)

_GROUP, _GROUP_BYTES = 64, 48 * 2**20
"""Pictures that are read, and whose faces go through the network, at once."""

Classify = Callable[[Tensor], npt.NDArray[np.float32]]
"""Crops (n, 3, side, side) uint8 -> probabilities (n, num_aus)."""

Pixels = npt.NDArray[np.uint8]
Read = Pixels | InputError | None
"""A picture, why there is none, or None: perhaps a video."""


@dataclass(frozen=True)
class Piece:
    """Some rows of an input.

    Attributes:
        key: Of the input.
        name: Of what the rows show.
        rows: Records; perhaps none.
        done: Whether these are the input's last.
        problem: With the last ones: what was wrong with the input, in one line.
        size: Bytes of the input that have been dealt with since its piece before.
    """

    key: str
    name: str
    rows: npt.NDArray[np.void]
    done: bool = True
    problem: str | None = None
    size: int = 0


class FileStream:
    """Predicts pictures and videos.

    Args:
        finder: Finds faces; None: files hold aligned crops.
        classify: The network.
        side: Of the crops that it takes.
        num_aus: Of the records.
    """

    def __init__(self, finder: FaceFinder | None, classify: Classify, side: int, num_aus: int) -> None:
        self.finder = finder
        self.classify = classify
        self.side = side
        self.num_aus = num_aus
        self.nothing = empty_rows(0, num_aus)
        self._said = False

    def pieces(self, files: Sequence[FileInput]) -> Iterator[Piece]:
        """The rows of all files, in their order; the last piece of each tells what was wrong with it."""
        for group in ahead(self._groups(files)):
            pictures = [self._found(file, read) for file, read in group if isinstance(read, np.ndarray)]
            fill(self.classify, pictures)
            found = iter(pictures)
            for file, read in group:
                if read is None:
                    yield from self._video(file)
                elif isinstance(read, InputError):
                    yield Piece(file.key, file.name, self.nothing, problem=str(read), size=file.size)
                else:
                    yield Piece(file.key, file.name, next(found).rows, size=file.size)

    def _groups(self, files: Sequence[FileInput]) -> Iterator[list[tuple[FileInput, Read]]]:
        """Neighbouring pictures, read; alone, as None, what may be a video."""
        group: list[tuple[FileInput, Read]] = []
        held = 0
        for file in files:
            read = self._read(file)
            if read is None and group:
                yield group
                group, held = [], 0
            group.append((file, read))
            held += read.nbytes if isinstance(read, np.ndarray) else 0
            if read is None or held >= _GROUP_BYTES or len(group) >= _GROUP:
                yield group
                group, held = [], 0
        if group:
            yield group

    def _read(self, file: FileInput) -> Read:
        try:
            pixels = read_picture(file.path)
            if pixels is not None:
                self._check_crop(file, pixels)
        except InputError as error:
            return error
        except OSError as error:
            return InputError(file.name, error.strerror or str(error))
        return pixels

    def _found(self, file: FileInput, pixels: Pixels) -> Found:
        frame = Frame(1, float("nan"), pixels)
        if self.finder is None:
            return as_crops([frame], self.num_aus)
        if pixels.shape[:2] == (self.side, self.side) and not self._said:
            self._said = True
            log.warning(
                f"{one_line(file.name)} has the size of an aligned crop: faces are looked for in it as in "
                "any picture; --crops takes pictures as they are"
            )
        return self.finder.in_picture(frame)

    def _video(self, file: FileInput) -> Iterator[Piece]:
        tracker, problem = Tracker(), None
        position = told = 0

        def reached(place: int) -> None:
            nonlocal position
            position = place

        try:
            for frames in ahead(read_video(file.path, reached)):
                self._check_crop(file, frames[0].pixels)
                found = (
                    self.finder.in_video(frames, tracker) if self.finder else as_crops(frames, self.num_aus)
                )
                fill(self.classify, [found])
                size, told = position - told, position
                yield Piece(file.key, file.name, found.rows, done=False, size=size)
        except InputError as error:
            problem = str(error)
        except OSError as error:
            problem = str(InputError(file.name, error.strerror or str(error)))
        yield Piece(file.key, file.name, self.nothing, problem=problem, size=file.size - told)

    def _check_crop(self, file: FileInput, pixels: Pixels) -> None:
        """Refuses what is given as an aligned crop and is none of the network's."""
        if self.finder is None and pixels.shape[:2] != (self.side, self.side):
            raise InputError(
                file.name,
                f"{pixels.shape[1]}x{pixels.shape[0]} pixels, while the network takes aligned crops of "
                f"{self.side}x{self.side}; without --crops faces are looked for and aligned",
            )


def fill(classify: Classify, found: Sequence[Found]) -> None:
    """Fills in what the network says of the faces that were found."""
    if not any(len(one.crops) for one in found):
        return
    probs = classify(torch.cat([one.crops for one in found]))
    start = 0
    for one in found:
        seen = np.flatnonzero(one.rows["face"] >= 0)
        mine = probs[start : start + len(seen)]
        one.rows["probs"][seen], one.rows["occurrence"][seen] = mine, mine >= THRESHOLD
        start += len(seen)
