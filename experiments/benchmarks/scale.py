"""Cost against the number of frames: ``scale.py STORE BATCH_SIZE``, a contestant of ``data.py``.

A store of N frames is simulated: its index, labels and list of sources are as long as those of a real one,
and its frames repeat the bytes of 10,000 real ones. What that leaves out is a disk that cannot keep all bytes
in memory; it shows what the number of frames costs by itself.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import bench_set
import numpy as np
import numpy.typing as npt
from common import Answer, serve

from aunet.data.loader import FrameLoader
from aunet.data.store import INDEX, is_store, open_store, read_record
from aunet.files import write_json
from aunet.host import configure_host

PER_VIDEO = 4600
"""About as many as a video of Aff-Wild2 has."""
ANNOTATION_BYTES = 25
"""A line of an annotation file: opening a store compares the hash of these files."""
VALIDATION = 0.1


def simulated(store: Path, size: int) -> Path:
    """A store of ``size`` frames whose bytes are those of ``store``, over and over.

    Args:
        store: A store of files.
        size: Frames of both splits.
    """
    out = store.with_name(f"{store.name}.times-{size}")
    if is_store(out) and (out / "frames.bin").samefile(store / "frames.bin"):
        return out
    shutil.rmtree(out, ignore_errors=True)  # unfinished, or of a store that was packed again since
    record = read_record(store)
    out.mkdir()
    os.link(store / "frames.bin", out / "frames.bin")
    train = round(size * (1 - VALIDATION))
    sizes = {"train": train, "val": size - train}
    columns = {name: _repeated(np.load(store / f"{name}.npy"), size) for name in INDEX[:4]}
    rows = np.concatenate([np.arange(part, dtype=np.int32) for part in sizes.values()])
    columns["video"], columns["frame"] = rows // PER_VIDEO, rows % PER_VIDEO + 1
    splits: dict[str, Any] = {}
    for split, part in sizes.items():
        videos = [f"{split}{number}" for number in range(-(-part // PER_VIDEO))]
        splits[split] = {
            "frames": part,
            "videos": videos,
            "groups": videos,
            "grouped_by": record["splits"][split]["grouped_by"],
            "dropped": {},
            "pictures": record["splits"][split]["pictures"],
        }
    for name, column in columns.items():
        np.save(out / f"{name}.npy", column)
    source = out / "source"
    source.mkdir()
    (source / "annotations.txt").write_bytes(bytes(ANNOTATION_BYTES * size))
    names = ["frames.bin", *(f"{name}.npy" for name in INDEX)]
    content = {
        **record,
        "splits": splits,
        "sizes": {name: (out / name).stat().st_size for name in names},
        "digests": {name: _digest(out / name) for name in names[1:]},
        "source": {
            "root": str(source.resolve()),
            "files": {"annotations.txt": _digest(source / "annotations.txt")},
            "folders": {},
        },
    }
    write_json(out / "store.json", content)
    return out


def _repeated(column: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    return np.resize(column, (size, *column.shape[1:]))


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def endless(loader: FrameLoader) -> Iterator[int]:
    """Sizes of the batches of one epoch after another."""
    for epoch in count():
        loader.batches.set_epoch(epoch)
        for batch in loader:
            yield len(batch["frames"])


def resident_mb() -> float:
    """Memory of this process that is in use, in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1000


def main(store: Path, batch_size: int) -> None:
    """Opens the store at the first question and answers what that took; then measures batches."""
    configure_host()
    module = bench_set.module_of(store, f"batch_size={batch_size}")
    batches: Iterator[int] | None = None

    def measure(number: int) -> Answer:
        nonlocal batches
        if batches is not None:
            begin = time.perf_counter()
            frames = sum(islice(batches, number))
            return {"frames_per_s": frames / (time.perf_counter() - begin)}
        before, begin = resident_mb(), time.perf_counter()
        module.setup("fit")
        loader = module.train_dataloader()
        opened, rss = time.perf_counter() - begin, resident_mb() - before
        batches = endless(loader)
        next(batches)
        first = time.perf_counter() - begin
        sum(islice(batches, number))
        rss_mb = max(rss, resident_mb() - before)
        begin = time.perf_counter()
        open_store(store)  # by itself, without the counts that the data module takes of the labels
        return {
            "open_s": opened,
            "open_store_s": time.perf_counter() - begin,
            "first_batch_s": first,
            "rss_opened_mb": rss,
            "rss_mb": rss_mb,
        }

    serve(measure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
