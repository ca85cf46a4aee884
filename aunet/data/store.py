"""A packed frame store: all pictures of a data set in one file, with an index that is read by memory map.

    STORE/store.json     version, recipe, splits, videos, sources and sizes; its presence means complete
    STORE/frames.bin     the pictures' files one after another, or raw pixels
    STORE/start.npy      (N,) uint64 where each begins; train, then val, then test
    STORE/length.npy     (N,) uint32 how long each is
    STORE/crc32.npy      (N,) uint32 checksum of each
    STORE/labels.npy     (N, num_aus) int8;  video.npy, frame.npy: (N,) int32, as in FrameTable

Pictures are read by ``pread``: no descriptor position that processes would share, no page fault that a file
which was cut off turns into a dead process, and what was read is not counted as this process' memory.
"""

import inspect
import json
import os
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.data.faults import DataError, Faults, PictureError
from aunet.data.frames import FrameTable
from aunet.data.pictures import decode_into
from aunet.data.staleness import changed_source, file_digest
from aunet.facs import au_column

VERSION = 1
_VERIFIED_AT_ONCE = 256
INDEX = ("start", "length", "crc32", "labels", "video", "frame")
"""The files of the index, each ``<name>.npy``."""

_PLACES = {"root", "crops", "annotations", "pictures", "file"}
"""Options of readers that say where things are: a store may be opened without them."""

_ELSEWHERE = {"aus", "faults"}
"""Options that a store records elsewhere, or not at all."""


class PackedFrames:
    """Pictures of a split within a store.

    Args:
        folder: The store.
        start: (N,) where each picture begins in ``frames.bin``.
        length: (N,) its number of bytes.
        raw: (H, W, 3) of raw pixels; None for files.
        describe: Names a frame in messages.
    """

    def __init__(
        self,
        folder: Path,
        start: npt.NDArray[np.uint64],
        length: npt.NDArray[np.uint32],
        raw: tuple[int, int, int] | None,
        describe: Callable[[int], str],
    ) -> None:
        self.folder = folder
        self.start = start
        self.length = length
        self.raw = raw
        self._describe = describe
        self._descriptor: int | None = None

    def __getstate__(self) -> dict[str, Any]:  # a descriptor means nothing to a process that is spawned
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def name(self, index: int) -> str:
        """The store, the video and the number of the frame."""
        return f"{self.folder}, {self._describe(index)}"

    def read(self, index: int) -> bytes:
        """One frame's bytes; raises PictureError."""
        try:
            data = os.pread(self._open(), int(self.length[index]), int(self.start[index]))
        except OSError as error:
            raise self._unreadable(index, error) from None
        if len(data) != self.length[index]:
            raise self._cut_off(index)
        return data

    def fill(self, index: int, out: npt.NDArray[np.uint8], resize: bool) -> None:
        """One frame's pixels into (H, W, 3) ``out``; raises PictureError."""
        if self.raw is None:
            decode_into(self.read(index), out, partial(self.name, index), resize)
            return
        if out.nbytes != self.length[index]:
            shape = f"{self.raw[1]}x{self.raw[0]}"
            raise PictureError(self.name(index), "wrong-size", f"the store holds {shape} pixels")
        try:
            done = os.preadv(self._open(), [out.data], int(self.start[index]))
        except OSError as error:
            raise self._unreadable(index, error) from None
        if done != out.nbytes:
            raise self._cut_off(index)

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.folder / "frames.bin", os.O_RDONLY)
        return self._descriptor

    def _unreadable(self, index: int, error: OSError) -> PictureError:
        return PictureError(self.name(index), "store-file", f"cannot be read ({error.strerror})")

    def _cut_off(self, index: int) -> PictureError:
        return PictureError(self.name(index), "store-file", "frames.bin ends before this frame")


def is_store(path: Path) -> bool:
    """Whether a folder is a complete store."""
    return (path / "store.json").is_file()


def recipe(read: Callable[..., Any]) -> dict[str, Any]:
    """A reader and the options that decide what it reads, defaults included, as a store records them."""
    function, options = (read.func, read.keywords) if isinstance(read, partial) else (read, {})
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    decisive = {
        key: value for key, value in {**defaults, **options}.items() if key not in _PLACES | _ELSEWHERE
    }
    name = f"{function.__module__}.{getattr(function, '__qualname__', function)}"
    return {"reader": name, "options": {key: _plain(decisive[key]) for key in sorted(decisive)}}


def _plain(value: Any) -> Any:
    if callable(value):
        return recipe(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if key not in _PLACES}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_record(folder: Path) -> dict[str, Any]:
    """Content of ``store.json``; raises DataError."""
    try:
        record = json.loads((folder / "store.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'store.json'}: cannot be read ({error}); pack it again") from None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        version = record.get("version") if isinstance(record, dict) else None
        raise DataError(f"{folder}: store of version {version}, this aunet reads {VERSION}; pack it again")
    return record


def open_store(
    folder: Path,
    aus: Sequence[int] | None = None,
    asked: dict[str, Any] | None = None,
    allow_stale: bool = False,
) -> dict[str, FrameTable]:
    """Opens a store: the FrameTable of each split, its columns memory-mapped.

    Args:
        folder: The store.
        aus: AUs to read, in the order wanted: those that were packed, in any order; None: as packed.
        asked: Recipe that the store must have been packed by, see ``recipe``; None: any.
        allow_stale: Open it even if its sources have changed.

    Raises:
        DataError: It is damaged, of another version, packed by another recipe, or its sources have changed.
    """
    record = read_record(folder)
    if asked is not None and asked != record["recipe"]:
        raise DataError(
            f"{folder} was packed otherwise: {_difference(record['recipe'], asked)}; pack it again"
        )
    packed = list(record["aus"])
    wanted = packed if aus is None else list(aus)
    if sorted(wanted) != sorted(packed):
        names = ", ".join(map(au_column, packed))
        raise DataError(f"{folder} was packed for {names}: pack it again with data.aus={wanted}")
    for name, size in record["sizes"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            found = f"{file.stat().st_size} bytes" if file.is_file() else "missing"
            raise DataError(f"{file}: {found} where the store says {size} bytes; pack it again")
    if not allow_stale and (changed := changed_source(record)):
        raise DataError(f"{folder} is stale: {changed}; pack it again")
    # As plain arrays over the maps: np.memmap takes a microsecond for each number that is read.
    index = {name: np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in INDEX}
    columns = None if wanted == packed else [packed.index(au) for au in wanted]
    raw = record["raw"] and (int(record["raw"][0]), int(record["raw"][1]), 3)
    tables: dict[str, FrameTable] = {}
    first = 0
    for split, entry in record["splits"].items():
        rows = slice(first, first + entry["frames"])
        first = rows.stop
        videos, video, frame = tuple(entry["videos"]), index["video"][rows], index["frame"][rows]
        tables[split] = FrameTable(
            aus=tuple(wanted),
            videos=videos,
            groups=tuple(entry["groups"]),
            video=video,
            frame=frame,
            labels=index["labels"][rows] if columns is None else index["labels"][rows][:, columns],
            source=PackedFrames(
                folder,
                index["start"][rows],
                index["length"][rows],
                raw,
                partial(_describe, videos, video, frame),
            ),
            dropped=entry["dropped"],
            grouped_by=entry["grouped_by"],
            pictures=entry["pictures"],
        )
    return tables


def _describe(
    videos: tuple[str, ...], video: npt.NDArray[np.int32], frame: npt.NDArray[np.int32], index: int
) -> str:
    return f"{videos[int(video[index])]}, frame {int(frame[index])}"


def _difference(packed: dict[str, Any], asked: dict[str, Any]) -> str:
    if packed["reader"] != asked["reader"]:
        return f"by {packed['reader']}, the configuration says {asked['reader']}"
    before, after = packed["options"], asked["options"]
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    return ", ".join(
        f"with data.read.{key}={before.get(key)}, the configuration says {after.get(key)}" for key in changed
    )


def verify_store(folder: Path, faults: Faults, advance: Callable[[int], object]) -> None:
    """Reads every byte of a store and compares all checksums.

    Args:
        folder: The store.
        faults: Receives files and frames that are not as they were written.
        advance: Told from time to time how many more frames have been read.

    Raises:
        DataError: It cannot be opened.
    """
    record = read_record(folder)
    for name, digest in record["digests"].items():
        if file_digest(folder / name) != digest:
            faults.add("store-file", folder / name, "its checksum is another")
    if faults.places:
        return
    if changed := changed_source(record):
        faults.add("stale-store", folder, changed)
    sums = np.load(folder / "crc32.npy", mmap_mode="r")
    first = 0
    for table in open_store(folder, allow_stale=True).values():
        for start in range(0, len(table), _VERIFIED_AT_ONCE):
            rows = range(start, min(start + _VERIFIED_AT_ONCE, len(table)))
            for row in rows:
                _verify(table, row, int(sums[first + row]), faults)
            advance(len(rows))
        first += len(table)


def _verify(table: FrameTable, row: int, checksum: int, faults: Faults) -> None:
    try:
        if zlib.crc32(table.source.read(row)) != checksum:
            faults.add("checksum", table.source.name(row))
    except PictureError as error:
        faults.add(error.kind, table.source.name(row), error.detail)
