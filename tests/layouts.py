"""Writes tiny data sets in Aff-Wild2's layout, in every spelling in use and with the traps of real copies."""

import csv
import importlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from aunet.data.folds import BP4D_PARTS, DISFA_PARTS
from aunet.facs import AFFWILD2, BP4D, DISFA_CODED

Labels = Mapping[str, Mapping[str, np.ndarray]]
"""Split -> video -> (rows, num_aus) labels."""


@dataclass(frozen=True)
class Spelling:
    """Names under which one edition, or one user's copy, keeps the same data."""

    annotations: str
    train: str
    val: str
    crops: str


SPELLINGS = {
    "abaw3": Spelling(
        "Third ABAW Annotations/AU_Detection_Challenge", "Train_Set", "Validation_Set", "cropped_aligned"
    ),
    "abaw3_prl": Spelling(
        "3rd_ABAW_Annotations/AU_Detection_Challenge", "Train_Set", "Validation_Set", "cropped_aligned"
    ),
    "abaw2": Spelling("AU_Set", "Training_Set", "Validation_Set", "images"),
    "abaw2_nested": Spelling("annotations/AU_Set", "Train_Set", "Validation_Set", "faces"),
    "abaw5": Spelling("5th ABAW Annotations/AU_Detection_Challenge", "Train_Set", "Validation_Set", "images"),
    "abaw6": Spelling(
        "6th_ABAW_Annotations/AU_Detection_Challenge", "Train_Set", "Validation_Set", "cropped_aligned_images"
    ),
    "by_hand": Spelling("labels/ABAW/action units", "train", "val", "aff-wild2/Cropped-Aligned"),
}

TRAPS = {
    "missing_crop": "each video's 2nd row is an extra one without a crop",
    "unknown_row": "each video's 2nd row is an extra one of -1 throughout",
    "partly_unknown_row": "each video's 2nd row is an extra one with a single -1",
    "extra_crops": "each video has two crops beyond its last row",
    "people": "the first two training videos are _left and _right of one video",
    "untidy": "the header ends with a blank, commas are followed by blanks",
    "crlf": "lines end with CR LF",
    "bom": "files begin with a byte-order mark",
    "permuted": "columns stand in reverse order",
}
"""What real copies hold. Those that insert a row do so in the order given here, each as the 2nd row."""

_DECOYS = {
    "EXPR_Classification_Challenge": ("Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other", "0"),
    "VA_Estimation_Challenge": ("valence,arousal", "0.25,-0.5"),
}
_GRID = (3, 4)  # each AU shows as the brightness of one cell


def default_labels(
    videos: tuple[int, int] = (3, 2),
    frames: tuple[int, int] = (6, 5),
    seed: int = 0,
    num_aus: int = len(AFFWILD2),
    people: bool = False,
) -> dict[str, dict[str, np.ndarray]]:
    """Random labels in which every AU is present and absent in both splits (given two rows or more).

    Args:
        videos: Number of training and of validation videos.
        frames: Rows in each training and in each validation video.
        seed: Of the random labels.
        num_aus: Columns.
        people: Make the first two training videos ``_left`` and ``_right`` of one.

    Returns:
        Split -> video -> (rows, num_aus) int8 in {0, 1}.
    """
    rng = np.random.default_rng(seed)
    result = {}
    for split, count, rows, first in (
        ("train", videos[0], frames[0], 1),
        ("val", videos[1], frames[1], 1 + videos[0]),
    ):
        labels = (rng.random((count * rows, num_aus)) < 0.4).astype(np.int8)
        columns = np.arange(num_aus)
        labels[(columns + 1) % len(labels), columns] = 0
        labels[columns % len(labels), columns] = 1
        names = [f"{number}-30-1280x720" for number in range(first, first + count)]
        if people and split == "train":
            names[:2] = [f"{names[0]}_left", f"{names[0]}_right"]
        result[split] = dict(zip(names, np.split(labels, count), strict=True))
    return result


def write_affwild2(
    root: Path,
    *,
    spelling: str | Spelling = "abaw3",
    videos: tuple[int, int] = (3, 2),
    frames: tuple[int, int] = (6, 5),
    labels: Labels | None = None,
    crops: Mapping[str, Collection[int]] | None = None,
    aus: Sequence[int] = AFFWILD2,
    size: int = 112,
    seed: int = 0,
    traps: Collection[str] = (),
    decoys: bool = True,
) -> Path:
    """Writes a data set whose pictures show the labels, so that a network can learn them.

    Args:
        root: Folder to write to; made if missing.
        spelling: Name in SPELLINGS, or names of one's own.
        videos: Number of training and of validation videos; see ``default_labels``.
        frames: Rows in each training and in each validation video.
        labels: Labels instead of random ones.
        crops: Video -> 1-based numbers of the frames that have a crop; all rows for videos not named.
        aus: AU of each label column.
        size: Side of the crops in pixels; 0 writes empty files, for readers of names only.
        seed: Of labels and pixels.
        traps: Names in TRAPS.
        decoys: Also write the annotations of the other challenges, a video file and the list of test videos.

    Returns:
        The root.
    """
    if unknown := set(traps) - set(TRAPS):
        raise ValueError(f"unknown traps: {sorted(unknown)}")
    names = SPELLINGS[spelling] if isinstance(spelling, str) else spelling
    if labels is None:
        labels = default_labels(videos, frames, seed, len(aus), "people" in traps)
    rng = np.random.default_rng(seed)
    for split, tables in labels.items():
        folder = root / names.annotations / getattr(names, split)
        folder.mkdir(parents=True, exist_ok=True)
        for video, plain in tables.items():
            table, without = _with_rows(np.asarray(plain, np.int8), traps)
            write_annotation(folder / f"{video}.txt", table, aus, traps)
            numbers = set(range(1, len(table) + 1)) - without
            if crops is not None and video in crops:
                numbers = set(crops[video])
            if "extra_crops" in traps:
                numbers |= {len(table) + 1, len(table) + 2}
            _write_crops(root / names.crops / video, table, sorted(numbers), size, rng)
            if decoys:
                _write_decoys(root, names, split, video, len(table))
    if decoys:
        (root / "batch1").mkdir(exist_ok=True)
        (root / "batch1" / "1-30-1280x720.mp4").write_bytes(b"\0")
        (root / "Action_Unit_Detection_Challenge_test_set_release.txt").write_text("9-15-1920x1080\n")
    return root


def write_test_split(
    root: Path,
    frames: Mapping[str, int],
    crops: Mapping[str, Collection[int]],
    folder: str = "cropped_aligned",
    seed: int = 0,
) -> Path:
    """Adds what is handed out of a test split: crops without annotations, and the lists; returns the root.

    Args:
        root: Of the data set.
        frames: Expected frames of each listed video.
        crops: Numbers of the crops of each video; no folder where there are none.
        folder: Of the crops, within the root.
        seed: Of the pictures.
    """
    rng = np.random.default_rng(seed)
    for video, numbers in crops.items():
        shown = rng.integers(0, 2, (max(numbers), len(AFFWILD2)))
        _write_crops(root / folder / video, shown, sorted(numbers), 112, rng)
    lines = "".join(f"{video}\n" for video in frames)
    (root / "Action_Unit_Detection_Challenge_test_set_release.txt").write_text(lines)
    lines = "".join(f"{video},{count}\n" for video, count in frames.items())
    (root / "AU_ABAW_Challenge_test_files_expected_frames.txt").write_text(lines)
    return root


def as_lists(root: Path, annotations: str, folder: str = "lists") -> Path:
    """Puts a data set's annotations into one file for each split, as later editions do; returns the root."""
    (root / folder).mkdir()
    for split, name in (("Train_Set", "train_set.txt"), ("Validation_Set", "val_set.txt")):
        lines = []
        for file in sorted((root / annotations / split).glob("*.txt")):
            header, *rows = file.read_text().splitlines()
            lines += [f"{file.stem}/{number:05d}.jpg,{row}" for number, row in enumerate(rows, start=1)]
        (root / folder / name).write_text("\n".join([f"image_location,{header}", *lines]) + "\n")
    shutil.rmtree(root / annotations.split("/")[0])
    return root


def write_annotation(
    file: Path, labels: np.ndarray, aus: Sequence[int] = AFFWILD2, traps: Collection[str] = ()
) -> Path:
    """Writes one annotation file, byte for byte as asked for."""
    order = range(len(aus))[::-1] if "permuted" in traps else range(len(aus))
    comma = ", " if "untidy" in traps else ","
    lines = [",".join(f"AU{aus[i]}" for i in order) + (" " if "untidy" in traps else "")]
    lines += [comma.join(str(int(row[i])) for i in order) for row in labels]
    newline = "\r\n" if "crlf" in traps else "\n"
    text = "".join(line + newline for line in lines)
    file.write_bytes(text.encode("utf-8-sig" if "bom" in traps else "utf-8"))
    return file


def _with_rows(labels: np.ndarray, traps: Collection[str]) -> tuple[np.ndarray, set[int]]:
    """The labels with the rows that traps insert, and the numbers of the rows without a crop."""
    without: set[int] = set()
    for trap in TRAPS:
        if trap not in traps or trap not in ("missing_crop", "unknown_row", "partly_unknown_row"):
            continue
        row = np.zeros(labels.shape[1], np.int8)
        if trap == "unknown_row":
            row[:] = -1
        elif trap == "partly_unknown_row":
            row[-1] = -1
        labels = np.insert(labels, 1, row, axis=0)
        without = {number + 1 for number in without} | ({2} if trap == "missing_crop" else set())
    return labels, without


def _write_crops(
    folder: Path, labels: np.ndarray, numbers: Sequence[int], size: int, rng: np.random.Generator
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = _GRID
    for number in numbers:
        file = folder / f"{number:05d}.jpg"
        if not size:
            file.touch()
            continue
        cells = np.zeros(rows * columns)
        if number <= len(labels):
            shown = labels[number - 1][: len(cells)] == 1
            cells[: len(shown)] = shown
        y, x = np.arange(size) * rows // size, np.arange(size) * columns // size
        pixels = 70.0 + 110 * cells.reshape(rows, columns)[y][:, x][..., None]
        pixels = pixels + rng.uniform(-25, 25, (size, size, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(file, quality=90)


def _write_decoys(root: Path, names: Spelling, split: str, video: str, rows: int) -> None:
    """Annotations of the other challenges, beside those of AUs and in the same form."""
    for challenge, (header, row) in _DECOYS.items():
        folder = (root / names.annotations).parent / challenge / getattr(names, split)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{video}.txt").write_text("\n".join([header, *[row] * rows]) + "\n")


def disfa_intensities(
    frames: int = 4, seed: int = 0, subjects: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Subject -> (frames, 12) intensities, 0 to 5, of DISFA's coded AUs; all subjects if None."""
    rng = np.random.default_rng(seed)
    names = subjects or [subject for part in DISFA_PARTS for subject in part]
    return {name: rng.integers(0, 6, (frames, len(DISFA_CODED))) for name in names}


def write_disfa(
    root: Path,
    intensities: Mapping[str, np.ndarray] | None = None,
    *,
    pictures: str = "img",
    first: int = 1,
    width: int = 5,
    suffix: str = ".png",
    size: int = 0,
) -> Path:
    """Writes DISFA's layout: a file of ``frame,intensity`` for each subject and AU, and numbered pictures.

    Args:
        root: Folder to write to; made if missing.
        intensities: As disfa_intensities makes them, which are written if None.
        pictures: Folder of the pictures within the root.
        first: Number of the picture that belongs to label frame 1.
        width: Digits that pictures' numbers are padded to.
        suffix: Of the pictures' names.
        size: Side of the pictures in pixels; 0 writes empty files, for readers of names only.

    Returns:
        The root.
    """
    for subject, table in (disfa_intensities() if intensities is None else intensities).items():
        folder = root / "ActionUnit_Labels" / subject
        folder.mkdir(parents=True, exist_ok=True)
        for au, column in zip(DISFA_CODED, table.T, strict=True):
            lines = [f"{frame},{int(value)}\n" for frame, value in enumerate(column, start=1)]
            (folder / f"{subject}_au{au}.txt").write_text("".join(lines))
        names = [f"{number:0{width}d}{suffix}" for number in range(first, first + len(table))]
        write_pictures(root / pictures / subject, names, size)
    return root


def bp4d_codes(
    frames: int = 3, tasks: int = 8, seed: int = 0, subjects: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Video such as "F001/T1" -> (frames, 12) codes of BP4D's AUs: 0, 1, or 9 for unknown."""
    rng = np.random.default_rng(seed)
    names = subjects or [subject for part in BP4D_PARTS for subject in part]
    return {
        f"{name}/T{task}": rng.choice([0, 1, 9], (frames, len(BP4D)), p=[0.5, 0.4, 0.1])
        for name in names
        for task in range(1, tasks + 1)
    }


def write_bp4d(
    root: Path,
    codes: Mapping[str, np.ndarray] | None = None,
    *,
    annotations: str = "AUCoding/AU_OCC",
    pictures: str = "2D+3D",
    first_frame: int = 1,
    first: int | None = None,
    width: int = 1,
    size: int = 0,
) -> Path:
    """Writes BP4D's layout: a file of occurrence codes for each subject and task, and numbered pictures.

    Columns of AUs that nobody coded hold 9 throughout, as in the original.

    Args:
        root: Folder to write to; made if missing.
        codes: As bp4d_codes makes them, which are written if None.
        annotations: Folder of the CSV files within the root.
        pictures: Folder of the pictures within the root.
        first_frame: Number of the first labelled frame.
        first: Number of the picture that belongs to it; the same if None.
        width: Digits that pictures' numbers are padded to.
        size: Side of the pictures in pixels; 0 writes empty files.

    Returns:
        The root.
    """
    folder = root / annotations
    folder.mkdir(parents=True, exist_ok=True)
    begin = first_frame if first is None else first
    for video, table in (bp4d_codes() if codes is None else codes).items():
        cells = np.full((len(table), 28), 9)
        cells[:, 0] = np.arange(first_frame, first_frame + len(table))
        cells[:, BP4D] = table
        lines = [",".join(map(str, range(28))), *(",".join(map(str, row)) for row in cells.tolist())]
        (folder / f"{video.replace('/', '_')}.csv").write_text("\n".join(lines) + "\n")
        names = [f"{number:0{width}d}.jpg" for number in range(begin, begin + len(table))]
        write_pictures(root / pictures / video, names, size)
    return root


def write_manifest(
    root: Path, rows: Sequence[Mapping[str, object]], *, name: str = "manifest.csv", size: int = 0
) -> Path:
    """Writes a manifest, CSV or Parquet by its name, and the pictures that it lists.

    Args:
        root: Folder to write to; made if missing.
        rows: Cells of each row by column, ``path`` among them; all have the columns of the first.
        name: Of the manifest.
        size: Side of the pictures in pixels; 0 writes empty files.

    Returns:
        The manifest.
    """
    root.mkdir(parents=True, exist_ok=True)
    for row in rows:
        path = root / str(row["path"])
        write_pictures(path.parent, [path.name], size)
    if name.endswith(".csv"):
        with (root / name).open("w", newline="", encoding="utf-8") as text:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet = importlib.import_module("pyarrow.parquet")
        table = importlib.import_module("pyarrow").Table.from_pylist([dict(row) for row in rows])
        parquet.write_table(table, root / name)
    return root / name


def write_pictures(folder: Path, names: Sequence[str], size: int = 0) -> None:
    """Writes grey-noise pictures of ``size`` pixels, or empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        if size:
            pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
        else:
            (folder / name).touch()
