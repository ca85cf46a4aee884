"""The published subject-exclusive folds of DISFA and BP4D, and splits by person where none are published.

The parts are those of JAA-Net (Shao et al., ECCV 2018) and ME-GraphAU (Luo et al., IJCAI 2022), as in the
latter's ``tool/{DISFA,BP4D}_image_label_process.py``: fold 1 tests part 3, fold 2 part 2, fold 3 part 1.
There the best epoch is chosen on the test fold itself (CVI-SZU/ME-GraphAU, issue 4); here an inner split of
the training subjects serves for that.
"""

import hashlib
from collections.abc import Iterable, Sequence

from aunet.data.faults import DataError

DISFA_PARTS: tuple[tuple[str, ...], ...] = (
    ("SN002", "SN010", "SN001", "SN026", "SN027", "SN032", "SN030", "SN009", "SN016"),
    ("SN013", "SN018", "SN011", "SN028", "SN012", "SN006", "SN031", "SN021", "SN024"),
    ("SN003", "SN029", "SN023", "SN025", "SN008", "SN005", "SN007", "SN017", "SN004"),
)
"""The 27 subjects of DISFA, in three parts."""

BP4D_PARTS: tuple[tuple[str, ...], ...] = (
    (
        *("F001", "M007", "F018", "F008", "F002", "M004", "F010"),
        *("F009", "M012", "M001", "F016", "M014", "F023", "M008"),
    ),
    (
        *("M011", "F003", "M010", "M002", "F005", "F022", "M018"),
        *("M017", "F013", "M016", "F020", "F011", "M013", "M005"),
    ),
    (
        *("F007", "F015", "F006", "F019", "M006", "M009", "F012"),
        *("M003", "F004", "F021", "F017", "M015", "F014"),
    ),
)
"""The 41 subjects of BP4D, in three parts."""


def inner_split(groups: Iterable[str], fraction: float, seed: int = 0) -> dict[str, str]:
    """Splits groups into training and validation, at least one of each.

    They are permuted by a hash of seed and name and the first become the validation groups: the same names
    give the same split with any version of NumPy, in whatever order they are given.

    Args:
        groups: Names of people or videos, each counted once.
        fraction: Share of the groups to validate on, in (0, 1).
        seed: Of the permutation.

    Returns:
        "train" or "val" of each group.

    Raises:
        DataError: ``fraction`` lies outside, or there are fewer than two groups.
    """
    if not 0 < fraction < 1:
        raise DataError(f"data.read.val_fraction={fraction} must lie between 0 and 1")
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(f"{len(names)} people or videos cannot be split into training and validation")

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()

    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    chosen = set(sorted(names, key=rank)[:count])
    return {name: "val" if name in chosen else "train" for name in names}


def fold_splits(
    parts: Sequence[Sequence[str]], fold: int, val_fraction: float = 0.2, split_seed: int = 0
) -> dict[str, str]:
    """The split of each subject in one fold of a published cross-validation.

    It follows from the published list alone, not from which subjects a copy of the data set holds.

    Args:
        parts: Subjects of each part, such as DISFA_PARTS; fold k tests the k-th part from the end.
        fold: 1 to ``len(parts)``.
        val_fraction: Share of the other parts' subjects that choose the best epoch, in (0, 1).
        split_seed: Of that choice.

    Returns:
        "train", "val" or "test" of each subject.

    Raises:
        DataError: There is no such fold, or ``val_fraction`` lies outside.
    """
    if fold not in range(1, len(parts) + 1):
        raise DataError(f"data.read.fold={fold} must be 1 to {len(parts)}")
    tested = parts[len(parts) - fold]
    others = [subject for part in parts if part is not tested for subject in part]
    return inner_split(others, val_fraction, split_seed) | dict.fromkeys(tested, "test")
