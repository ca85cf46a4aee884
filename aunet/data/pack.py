"""Packs a data set into a frame store: streaming, in threads, and going on where an interrupted call stopped.

Work lies in ``<store>.partial`` until it is complete (``aunet.data.journal``); the folder is renamed at the
end.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from aunet.data.faults import DataError
from aunet.data.frames import FrameTable
from aunet.data.journal import Packing, read_journal, write_frames
from aunet.data.rendered.facts import MANIFEST as RENDERED
from aunet.data.staleness import file_digest, source_record, times
from aunet.data.store import INDEX, VERSION, is_store, open_store
from aunet.processes import usable_cores

log = logging.getLogger(__name__)

SKIPPED = "pictures at fault (skipped)"


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
            if _holds(out, record, tables):
                return False
            _prepare(partial, record)
            if not is_store(partial):  # else the last call ended between its last two steps
                write_frames(tables, packing, partial, threads or usable_cores())
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
        "resize": packing.resize,
        "on_bad": packing.on_bad,
        "fingerprint": {split: table.fingerprint() for split, table in tables.items()},
        "source": source_record(files, folders, packing.root),
    }


def _holds(out: Path, record: Mapping[str, Any], tables: Mapping[str, FrameTable]) -> bool:
    """Whether ``out`` is a whole store of these data; refuses to replace anything but a store of them."""
    if not out.exists():
        return False
    if not is_store(out):
        raise DataError(f"{out} exists and is no store: give another place")
    found = _read_json(out / "store.json")
    root = found.get("source", {}).get("root")
    if root != record["source"]["root"]:
        raise DataError(f"{out} is a store of {root}: give another place, or remove it")
    changed = [key for key in record if found.get(key) != json.loads(json.dumps(record[key]))]
    if any(SKIPPED in entry["dropped"] for entry in found.get("splits", {}).values()):
        changed.append("pictures that were skipped may have been mended")
    if not changed:
        try:
            open_store(out, allow_stale=True)
            changed = [name for name, digest in found["digests"].items() if file_digest(out / name) != digest]
            changed = changed or _other_sizes(tables, np.load(out / "length.npy"), found["raw"])
        except DataError as error:
            changed = [str(error)]
    if changed:
        log.info(f"{out} was packed from other data or otherwise ({', '.join(changed)}): packed again")
        return False
    if found["times"] != (now := times(found["source"])):  # other things were written to the folders since
        _write_json(out / "store.json", {**found, "times": now})
    return True


def _other_sizes(
    tables: Mapping[str, FrameTable], lengths: npt.NDArray[np.uint32], raw: list[int] | None
) -> list[str]:
    """The first picture whose file has not the length that was packed; none of a store of raw pixels."""
    names = (table.source.name(row) for table in tables.values() for row in range(len(table)))
    for name, length in zip(names, () if raw else lengths.tolist(), strict=False):
        file = Path(name)
        if file.is_file() and file.stat().st_size != length:
            return [f"{name} has another length"]
    return []


def _prepare(partial: Path, record: Mapping[str, Any]) -> None:
    """Makes the folder, or keeps what an interrupted call with the same data left there."""
    plans = [plan for plan in (partial / "store.json", partial / "plan.json") if plan.exists()]
    for plan in plans:
        kept = _read_json(plan)
        if {key: kept.get(key) for key in record} == json.loads(json.dumps(record)):
            return
    if partial.exists():
        if not plans and any(not path.name.startswith(".") for path in partial.iterdir()):
            raise DataError(f"{partial} is in the way: it was not left by an interrupted packing")
        shutil.rmtree(partial)
    partial.mkdir()
    _write_json(partial / "plan.json", record)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove its folder and pack again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: no JSON object; remove its folder and pack again")
    return content


def _finish(tables: Mapping[str, FrameTable], record: dict[str, Any], partial: Path) -> None:
    """Writes the index and, last, ``store.json``."""
    journal = read_journal(partial / "journal.bin")
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
        "times": times(record["source"]),
        "sizes": {name: (partial / name).stat().st_size for name in names},
        "digests": {name: file_digest(partial / name) for name in names[1:]},
    }
    about = Path(record["source"]["root"]) / RENDERED
    if about.is_file():  # that the faces are rendered travels with them
        shutil.copyfile(about, partial / RENDERED)
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
