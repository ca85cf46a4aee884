"""Reads and checks pictures in threads and appends them to a store that is being packed.

``frames.bin`` grows by whole pictures, and ``journal.bin`` after it by 8 bytes for each (length and CRC-32; a
length of 0 is a picture that was skipped). What a killed process left is cut back to the last picture that
both agree on.
"""

import logging
import os
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.data.faults import DataError, OnBad, PictureError
from aunet.data.frames import FrameTable
from aunet.data.pictures import decode_into
from aunet.progress import progress

log = logging.getLogger(__name__)

_JOURNAL = np.dtype([("length", "<u4"), ("crc32", "<u4")])
_CHUNK = 256
_SYNCED_EVERY = 256 * 2**20
_VERIFIED = 2 * _SYNCED_EVERY
"""Bytes at the end of an interrupted store whose checksums are compared: they may not be on the disk."""


@dataclass(frozen=True)
class Packing:
    """What is packed, and how.

    Attributes:
        root: Folder of the data set, or the file that lists it.
        recipe: Reader and options, see ``aunet.data.store.recipe``.
        image_size: Side of the pictures in pixels.
        resize: Accept pictures of another size.
        decoded: Keep raw pixels instead of the files.
        on_bad: "error" stops at a picture that cannot be used; "skip" leaves it out and counts it.
    """

    root: Path
    recipe: Mapping[str, Any]
    image_size: int
    resize: bool = False
    decoded: bool = False
    on_bad: OnBad = "error"


def write_frames(tables: Mapping[str, FrameTable], packing: Packing, partial: Path, threads: int) -> None:
    """Appends all pictures that are not there yet."""
    total = sum(map(len, tables.values()))
    frames_file, journal_file = partial / "frames.bin", partial / "journal.bin"
    done, end = _recover(frames_file, journal_file)
    if done:
        log.info(f"goes on after {done} of {total} frames")
    since = 0
    with (
        frames_file.open("r+b" if done else "wb") as frames,
        journal_file.open("r+b" if done else "wb") as journal,
        progress("packing", total, "frames", done) as advance,
    ):
        frames.truncate(end)
        journal.truncate(done * _JOURNAL.itemsize)
        frames.seek(0, os.SEEK_END)
        journal.seek(0, os.SEEK_END)

        def write(entries: list[tuple[bytes, int]]) -> None:
            frames.write(b"".join(data for data, _ in entries))
            frames.flush()
            journal.write(np.array([(len(data), crc) for data, crc in entries], _JOURNAL).tobytes())
            journal.flush()

        for entries, error in _read(tables, packing, done, threads):
            write(entries)
            if error is not None:
                raise DataError(f"{error} (data.on_bad=skip leaves it out)")
            since += sum(len(data) for data, _ in entries)
            if since > _SYNCED_EVERY:
                since = 0
                os.fsync(frames.fileno())
                os.fsync(journal.fileno())
            advance(len(entries))
        os.fsync(frames.fileno())


def _recover(frames_file: Path, journal_file: Path) -> tuple[int, int]:
    """(pictures, bytes) that both files agree on, the last pictures' checksums compared."""
    if not frames_file.exists() or not journal_file.exists():
        return 0, 0
    journal = read_journal(journal_file)
    ends = np.cumsum(journal["length"], dtype=np.int64)
    done = int(np.searchsorted(ends, frames_file.stat().st_size, side="right"))
    with frames_file.open("rb") as frames:
        for row in range(int(np.searchsorted(ends, ends[done - 1] - _VERIFIED)) if done else 0, done):
            length = int(journal["length"][row])
            frames.seek(int(ends[row]) - length)
            if zlib.crc32(frames.read(length)) != journal["crc32"][row]:
                done = row
                break
    return done, int(ends[done - 1]) if done else 0


def read_journal(file: Path) -> npt.NDArray[np.void]:
    """``length`` and ``crc32`` of each picture that was appended; half a record at the end is left out."""
    data = file.read_bytes()
    return np.frombuffer(data[: len(data) // _JOURNAL.itemsize * _JOURNAL.itemsize], _JOURNAL)


Entries = tuple[list[tuple[bytes, int]], PictureError | None]
"""Bytes and checksum of neighbouring pictures up to the first that cannot be used, and why it cannot."""


def _read(tables: Mapping[str, FrameTable], packing: Packing, done: int, threads: int) -> Iterator[Entries]:
    """Reads and checks the pictures from number ``done`` on, some chunks ahead, in order."""
    chunks: list[tuple[FrameTable, range]] = []
    first = 0
    for table in tables.values():
        start = min(max(0, done - first), len(table))
        first += len(table)
        chunks += [
            (table, range(row, min(row + _CHUNK, len(table)))) for row in range(start, len(table), _CHUNK)
        ]
    with ThreadPoolExecutor(threads, "pack") as pool:
        ahead: deque[Future[Entries]] = deque()
        try:
            for table, rows in chunks:
                ahead.append(pool.submit(_read_chunk, table, rows, packing))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_chunk(table: FrameTable, rows: range, packing: Packing) -> Entries:
    entries: list[tuple[bytes, int]] = []
    pixels = np.empty((packing.image_size, packing.image_size, 3), np.uint8)
    for row in rows:
        try:
            data = table.source.read(row)
            decode_into(data, pixels, partial(table.source.name, row), packing.resize)
        except PictureError as error:
            if packing.on_bad != "skip":
                return entries, error
            log.warning(f"{error}: left out")
            entries.append((b"", 0))
            continue
        kept = pixels.tobytes() if packing.decoded else data
        entries.append((kept, zlib.crc32(kept)))
    return entries, None
