"""One page about one sweep or several, to look at, to send and to keep: it needs no network, no other file.

Every figure in it is that of ``aunet.results.read_table``, or comes from the same predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aunet.cells import require
from aunet.files import replacing
from aunet.progress import progress
from aunet.report.facts import page_commands
from aunet.report.gallery import make_gallery
from aunet.report.page import contents, render, shown_rows
from aunet.results import read_table, rows_of
from aunet.runs import RunError

LARGEST = 5_000_000
"""Bytes of a page at most."""

EXAMPLES = 3
"""Frames of each kind that the gallery shows of each AU."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        size: Of the page in bytes.
        remarks: What the page does not show, and why.
    """

    size: int
    remarks: list[str]


def write_report(
    sweeps: Sequence[str | Path],
    out: str | Path,
    data_root: str | Path | None = None,
    reference: str | None = None,
    faces: bool = False,
) -> Report:
    """Writes the page.

    Args:
        sweeps: Folders ``runs/<sweep>``, as for ``read_table``.
        out: The page's file.
        data_root: Where the data lie now, for pictures; None: where the runs have found them.
        reference: Row that all others are compared with; None: for each row the one that it names.
        faces: Embed pictures of data sets that are not rendered, too; licences may forbid passing them on.

    Raises:
        RunError: As ``read_table``; or no run has finished, or the page would be too large.
        FileNotFoundError: The folder of ``out`` is not there.
    """
    out = Path(out)
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"{out.parent} is no folder: make it, or write the page elsewhere")
    rows = rows_of(sweeps)
    for cells in rows.values():
        for cell in cells:
            require(cell, ("val/f1",))
    if not any(cell.metrics for cells in rows.values() for cell in cells):
        raise RunError(
            f"{', '.join(map(str, sweeps))}: no run has finished, and there is nothing to report; "
            f"aunet status says how far they are"
        )
    with progress("report", len(rows) + 2, "rows and parts") as advance:
        table = read_table(sweeps, reference, advance=advance)
        page = contents(table, rows, page_commands(sweeps, out, data_root, reference, faces))
        advance(1)
        looked_at = [(row, rows[row.name]) for row in shown_rows(table, len(table.rows))]
        gallery = make_gallery(table, looked_at, EXAMPLES, data_root, faces)
        advance(1)
    remarks = [f"no pictures: {gallery.missing}"] if gallery.missing else []
    text = render(page, gallery, "")
    for most in reversed(range(EXAMPLES)):
        if len(text.encode()) <= LARGEST:
            break
        gallery.cut(most)
        cut = f"{most} instead of {EXAMPLES} frames of each kind are shown, so that the page stays below 5 MB"
        remarks = [cut]
        text = render(page, gallery, cut)
    size = len(text.encode())
    if size > LARGEST:
        raise RunError(f"the page would have {size / 1e6:.1f} MB, more than 5: report fewer rows at once")
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Report(size, remarks)
