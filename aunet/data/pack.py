"""Packs a data set into a frame store: streaming, in threads, and going on where an interrupted call stopped.

Work lies in ``<store>.partial`` until it is complete: ``frames.bin`` grows by whole pictures, and
``journal.bin`` after it by 8 bytes for each (length and CRC-32; a length of 0 is a picture that was skipped).
What a killed process left is cut back to the last picture that both agree on. The folder is renamed at the
end.
"""

import json
import logging
import os
import shutil
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from aunet.data.faults import DataError, OnBad, PictureError
from aunet.data.frames import FrameTable
from aunet.data.pictures import decode_into
from aunet.data.store import INDEX, VERSION, file_digest, is_store, read_record, source_record
from aunet.processes import usable_cores
from aunet.progress import progress

log = logging.getLogger(__name__)

SKIPPED = "pictures at fault (skipped)"
_JOURNAL = np.dtype([("length", "<u4"), ("crc32", "<u4")])
_CHUNK = 256
_SYNCED_EVERY = 256 * 2**20
_VERIFIED = 4096
"""Pictures at the end of an interrupted store whose checksums are compared before it goes on."""


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


def pack(tables: Mapping[str, FrameTable], packing: Packing, out: Path, threads: int | None = None) -> bool:
    """Packs the frames of all splits.

    Args:
        tables: FrameTable of each split, over files.
        packing: What and how.
        out: The store; a store there that was packed from the same data set is replaced when it is stale.
        threads: Threads that read and check; None: one for each core.

    Returns:
        Whether anything was packed; False where the store was complete before.

    Raises:
        DataError: A picture cannot be used and is not to be skipped, ``out`` is something else, or another
            process is packing it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    try:
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0):
            record = _record(tables, packing)
            if _holds(out, record):
                return False
            _prepare(partial, record)
            if not is_store(partial):  # else the last call ended between its last two steps
                _write_frames(tables, packing, partial, threads or usable_cores())
                _finish(tables, record, partial)
            _put_in_place(partial, out)
    except Timeout:
        raise DataError(f"{out}: another process is packing it") from None
    return True


def _record(tables: Mapping[str, FrameTable], packing: Packing) -> dict[str, Any]:
    """What ``store.json`` says before anything is packed."""
    files = {file for table in tables.values() for file in table.files}
    folders: set[Path] = set()
    for table in tables.values():
        files |= {Path(table.source.name(row)) for row in table.sampled()}
        firsts = np.unique(table.video, return_index=True)[1].tolist()
        folders |= {Path(table.source.name(row)).parent for row in firsts}
    return {
        "version": VERSION,
        "recipe": dict(packing.recipe),
        "aus": list(next(iter(tables.values())).aus),
        "raw": [packing.image_size] * 2 if packing.decoded else None,
        "image_size": packing.image_size,
        "on_bad": packing.on_bad,
        "fingerprint": {split: table.fingerprint() for split, table in tables.items()},
        "source": source_record(files, folders, packing.root),
    }


def _holds(out: Path, record: Mapping[str, Any]) -> bool:
    """Whether ``out`` is a store of these data; refuses to replace anything but an older store of them."""
    if not out.exists():
        return False
    if not is_store(out):
        raise DataError(f"{out} exists and is no store: give another place")
    try:
        found = read_record(out)
    except DataError:
        found = json.loads((out / "store.json").read_text())
    root = found.get("source", {}).get("root")
    if root != record["source"]["root"]:
        raise DataError(f"{out} is a store of {root}: give another place, or remove it")
    changed = [key for key in record if key != "source" and found.get(key) != record[key]]
    if changed:
        log.info(f"{out} was packed from other data or otherwise ({', '.join(changed)}): packed again")
        return False
    if found["source"] != record["source"]:  # the same data, touched since
        _write_json(out / "store.json", {**found, "source": record["source"]})
    return True


def _prepare(partial: Path, record: Mapping[str, Any]) -> None:
    """Makes the folder, or keeps what an interrupted call with the same data left there."""
    for plan in (partial / "store.json", partial / "plan.json"):
        kept = json.loads(plan.read_text()) if plan.exists() else {}
        if {key: kept.get(key) for key in record} == json.loads(json.dumps(record)):
            return
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    _write_json(partial / "plan.json", record)


def _write_frames(tables: Mapping[str, FrameTable], packing: Packing, partial: Path, threads: int) -> None:
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
    journal = _read_journal(journal_file)
    ends = np.cumsum(journal["length"], dtype=np.int64)
    done = int(np.searchsorted(ends, frames_file.stat().st_size, side="right"))
    with frames_file.open("rb") as frames:
        for row in range(max(0, done - _VERIFIED), done):
            length = int(journal["length"][row])
            frames.seek(int(ends[row]) - length)
            if zlib.crc32(frames.read(length)) != journal["crc32"][row]:
                done = row
                break
    return done, int(ends[done - 1]) if done else 0


def _read_journal(file: Path) -> npt.NDArray[np.void]:
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
            decode_into(data, pixels, table.source.name(row), packing.resize)
        except PictureError as error:
            if packing.on_bad != "skip":
                return entries, error
            log.warning(f"{error}: left out")
            entries.append((b"", 0))
            continue
        kept = pixels.tobytes() if packing.decoded else data
        entries.append((kept, zlib.crc32(kept)))
    return entries, None


def _finish(tables: Mapping[str, FrameTable], record: dict[str, Any], partial: Path) -> None:
    """Writes the index and, last, ``store.json``."""
    journal = _read_journal(partial / "journal.bin")
    splits: dict[str, Any] = {}
    kept_tables = []
    first = 0
    for split, table in tables.items():
        rows = np.flatnonzero(journal["length"][first : first + len(table)])
        first += len(table)
        skipped = len(table) - len(rows)
        kept = table.take(rows) if skipped else table
        if not len(kept):
            raise DataError(f"the {split} split has no usable frame: {skipped} {SKIPPED}")
        kept_tables.append(kept)
        splits[split] = {
            "frames": len(kept),
            "videos": kept.videos,
            "groups": kept.groups,
            "grouped_by": kept.grouped_by,
            "dropped": {**kept.dropped, **({SKIPPED: skipped} if skipped else {})},
            "pictures": kept.pictures_digest(),
        }
    kept_frames = journal[journal["length"] > 0]
    length = kept_frames["length"].astype(np.uint32)
    ends = np.cumsum(length, dtype=np.uint64)
    index = {
        "start": ends - length,
        "length": length,
        "crc32": kept_frames["crc32"].astype(np.uint32),
        "labels": np.concatenate([table.labels for table in kept_tables]),
        "video": np.concatenate([table.video for table in kept_tables]),
        "frame": np.concatenate([table.frame for table in kept_tables]),
    }
    for name in INDEX:
        np.save(partial / f"{name}.npy", index[name])
    names = ["frames.bin", *(f"{name}.npy" for name in INDEX)]
    record = {
        **record,
        "splits": splits,
        "sizes": {name: (partial / name).stat().st_size for name in names},
        "digests": {name: file_digest(partial / name) for name in names[1:]},
    }
    _write_json(partial / "store.json", record)


def _put_in_place(partial: Path, out: Path) -> None:
    for name in ("journal.bin", "plan.json"):
        (partial / name).unlink(missing_ok=True)
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
