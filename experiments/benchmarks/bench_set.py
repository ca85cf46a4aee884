"""The benchmarks' frames: rendered faces made over into 10,000 files, and the same in every other format.

    <folder>/frames-<n>/            Aff-Wild2's layout: n training frames and a tenth of that for validation
    <folder>/frames-<n>.packed/     our store;  .decoded/: our store of raw pixels
    <folder>/frames-<n>.tar/        webdataset's shards;  .litdata/: litdata's chunks (training frames)

Each is written once, under a temporary name, and the same on every machine that renders the same faces.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from common import say

from aunet.config import data_module, prepare_data
from aunet.data.datamodule import FrameDataModule
from aunet.data.faults import Faults
from aunet.data.frames import FrameTable
from aunet.data.journal import Packing
from aunet.data.pack import pack
from aunet.data.store import recipe
from aunet.facs import CROP_SIZE, au_column

ANNOTATIONS = "Third ABAW Annotations/AU_Detection_Challenge"
FOLDERS = {"train": "Train_Set", "val": "Validation_Set"}
PER_VIDEO = 100
PER_SHARD = 1000
NOISE, LARGEST_SHIFT, QUALITY = 4.0, 3, 95
"""Together they make the rendered faces as large as Aff-Wild2's crops, about 6 KB."""


def frames(folder: Path, count: int, source: Path | None = None) -> Path:
    """Frames in Aff-Wild2's layout.

    Args:
        folder: Where the benchmarks' data lie.
        count: Training frames; a tenth of that many for validation come on top.
        source: A data set in Aff-Wild2's layout to take pictures from; None: the rendered faces.
    """
    out = folder / f"frames-{count}"
    if out.exists():
        return out
    module = data_module(source or prepare_data(["data=rendered"]), "affwild2")
    tables = module.read_tables(Faults())
    say(f"writing {count + count // 10} frames to {out}")
    with _whole(out) as draft:
        for split, size in {"train": count, "val": max(1, count // 10)}.items():
            _write_split(draft, split, tables[split], size)
    return out


def _write_split(root: Path, split: str, table: FrameTable, size: int) -> None:
    annotations = root / ANNOTATIONS / FOLDERS[split]
    annotations.mkdir(parents=True)
    header = ",".join(map(au_column, table.aus))
    pixels = np.empty((CROP_SIZE, CROP_SIZE, 3), np.uint8)
    for start in range(0, size, PER_VIDEO):
        video = f"{split}{start // PER_VIDEO:04d}"
        crops = root / "cropped_aligned" / video
        crops.mkdir(parents=True)
        rows = range(start, min(start + PER_VIDEO, size))
        for number, row in enumerate(rows, 1):
            simplejpeg.decode_jpeg(table.source.read(row % len(table)), buffer=pixels)
            rng = np.random.default_rng((split == "val", row))
            (crops / f"{number:05d}.jpg").write_bytes(_made_over(pixels, rng))
        lines = [",".join(map(str, table.labels[row % len(table)].tolist())) for row in rows]
        (annotations / f"{video}.txt").write_text("\n".join([header, *lines]) + "\n")


def _made_over(pixels: npt.NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Another JPEG file of a picture, moved by some pixels and with a sensor's noise."""
    moved = np.roll(pixels, rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, 2), (0, 1))
    noisy = (moved + rng.normal(0, NOISE, moved.shape)).clip(0, 255).astype(np.uint8)
    data: bytes = simplejpeg.encode_jpeg(noisy, quality=QUALITY, colorspace="RGB", colorsubsampling="420")
    return data


def store_place(data: Path, decoded: bool = False) -> Path:
    """Where our store of these frames is."""
    return data.with_name(f"{data.name}.{'decoded' if decoded else 'packed'}")


def store(data: Path, decoded: bool = False) -> Path:
    """Our store of these frames, made by what ``aunet data pack`` calls; one that is there stays."""
    module = module_of(data)
    packing = Packing(module.root, recipe(module.read), module.image_size, decoded=decoded)
    pack(module.read_tables(Faults()), packing, store_place(data, decoded))
    return store_place(data, decoded)


def module_of(data: Path, *overrides: str) -> FrameDataModule:
    """The data module of frames or of a store, as the configuration builds it."""
    return data_module(data, "affwild2", overrides)


def training_frames(data: Path) -> FrameTable:
    """Training frames of a set or a store."""
    return module_of(data).read_tables(Faults())["train"]


def tar_shards(data: Path) -> Path:
    """Webdataset's shards: for each frame its file and its labels, as its documentation lays them out."""
    out = data.with_name(f"{data.name}.tar")
    if out.exists():
        return out
    table = training_frames(data)
    with _whole(out) as draft:
        for start in range(0, len(table), PER_SHARD):
            with tarfile.open(draft / f"{start // PER_SHARD:06d}.tar", "w") as shard:
                for row in range(start, min(start + PER_SHARD, len(table))):
                    _add(shard, f"{row:08d}.jpg", table.source.read(row))
                    _add(shard, f"{row:08d}.labels", table.labels[row].tobytes())
    return out


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    shard.addfile(entry, io.BytesIO(data))


def litdata_chunks(data: Path) -> Path:
    """Litdata's chunks, written by its own ``optimize`` (which needs functions that it can send)."""
    out = data.with_name(f"{data.name}.litdata")
    if out.exists():
        return out
    import litdata

    with _whole(out) as draft:
        litdata.optimize(
            fn=_Sample(training_frames(data)),
            inputs=list(range(len(training_frames(data)))),
            output_dir=str(draft),
            chunk_bytes="64MB",
            num_workers=1,
            start_method="fork",
            verbose=False,
        )
    return out


class _Sample:
    def __init__(self, table: FrameTable) -> None:
        self.table = table

    def __call__(self, row: int) -> dict[str, Any]:
        return {"jpeg": self.table.source.read(row), "labels": self.table.labels[row].tobytes()}


def bytes_on_disk(path: Path) -> int:
    """Bytes that the file system spends on what lies in a folder."""
    return sum(512 * entry.lstat().st_blocks for entry in [path, *path.rglob("*")])


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A temporary folder that takes its name once it is complete."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def optional(make: Callable[[Path], Path], data: Path) -> Path | None:
    """Another library's format; None where the library is not installed."""
    try:
        return make(data)
    except ImportError as error:
        say(f"left out: {error}")
        return None
