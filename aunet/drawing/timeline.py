"""AUs over time: for each face a panel, for each AU a strip in it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from aunet.data.faults import one_line
from aunet.drawing.courses import BINS, Course, follow, steps
from aunet.drawing.rows import MOST_FACES, Rows
from aunet.files import check_place, replacing
from aunet.predict.images import read_picture
from aunet.report.svg import STYLE

log = logging.getLogger(__name__)

_PRESENT, _LINE, _SPREAD, _AWAY = "#0072b2", "#1a1a1a", "#9a9a9a", "#f0f0f0"

_ROOM = 600.0
"""Points that a title may take of the 720: the reader's font may be wider than the one that is measured."""

_FLOOR, _RISE = 0.22, 0.7
"""Of a strip's height: where probability 0 is, and how far above it 1; below, what is present is marked."""


def check_timeline(out: Path, file: Path) -> None:
    """Refuses what could not be written, before any work is done.

    Raises:
        ValueError: The suffix is not .svg, there is no folder for the file, or what it is of is a picture.
        OSError: That cannot be read.
    """
    if read_picture(file) is not None:
        raise ValueError(f"{out}: a timeline is one of a video, and {file.name} is a picture")
    if out.suffix.lower() != ".svg":
        raise ValueError(f"{out}: a timeline must end in .svg")
    check_place(out)


def draw_timeline(
    out: Path,
    name: str,
    rows: Callable[[], Iterator[Rows]],
    aus: Sequence[int],
    thresholds: npt.NDArray[np.floating],
) -> None:
    """Writes the timeline of a video.

    Args:
        out: SVG file; takes its place when it is whole.
        name: Of the video, for the title.
        rows: Gives its records in chunks, from the beginning at each call.
        aus: AU numbers.
        thresholds: (num_aus,) from which on AUs count as present.

    Raises:
        ValueError: The rows have no times, since they are a picture's.
    """
    name = one_line(name)
    edges, faces = steps(rows())
    shown = faces[:MOST_FACES]
    left = len(faces) - len(shown)
    if left:
        log.warning(f"{out}: {left} faces are left out, seen in no more frames than the {len(shown)} shown")
    courses = follow(rows(), edges, shown)
    with mpl.rc_context(), warnings.catch_warnings(), replacing(out) as temporary:
        # matplotlib's font is only measured with; what it lacks, the reader's has.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        # Text stays text, in the reader's own font, and equal rows give equal bytes.
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "timeline"})
        figure = _figure(name, edges, courses, aus, thresholds, left)
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Title": f"AUs over time: {name}"})


def _figure(
    name: str,
    edges: npt.NDArray[np.float64],
    courses: Sequence[Course],
    aus: Sequence[int],
    thresholds: npt.NDArray[np.floating],
    left: int,
) -> Figure:
    words = _words(edges, left)
    strip, head, foot, between = 0.3, 0.95 + 0.16 * words.count("\n"), 0.6, 0.45
    panel = strip * len(aus)
    panels = max(1, len(courses))
    width, height = 10.0, head + foot + panels * panel + (panels - 1) * between
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(width, height))
        title = _fitting("Action Units over time: ", name, FontProperties(size=11, weight="bold"))
        figure.text(0.06, 1 - 0.28 / height, title, size=11, weight="bold")
        figure.text(0.06, 1 - 0.38 / height, words, size=8.5, va="top")
        for number, course in enumerate(courses):
            bottom = height - head - (number + 1) * panel - number * between
            axes = figure.add_axes((0.06, bottom / height, 0.92, panel / height))
            _panel(axes, course, edges, aus, thresholds)
            axes.tick_params(labelbottom=number == len(courses) - 1)
        if courses:
            axes.set_xlabel("time in s" if edges[-1] < 600 else "time in h:min:s")
        else:
            figure.text(0.5, 0.4, "no face was found", ha="center", size=11)
    return figure


def _fitting(begin: str, name: str, font: FontProperties) -> str:
    """A line that names a file, whose name is cut in its middle to what fits."""
    for kept in range(len(name), 0, -1):
        said = name if kept == len(name) else f"{name[: (kept + 1) // 2]}…{name[len(name) - kept // 2 :]}"
        if TextToPath().get_text_width_height_descent(begin + said, font, ismath=False)[0] <= _ROOM:
            return begin + said
    return begin


def _words(edges: npt.NDArray[np.float64], left: int) -> str:
    """What the drawing means, in one line or two."""
    words = (
        "Strips from 0 to 1; line: probability, dots: threshold, thick blue bar: present, "
        "hatched: nothing known of the face."
    )
    more = []
    if len(edges) > BINS:
        more.append(f"A step is {edges[1] - edges[0]:.3g} s; grey spans its least to its most.")
    if left:
        more.append(f"Left out: {left} faces, seen in no more frames than these.")
    return f"{words}\n{' '.join(more)}" if more else words


def _panel(
    axes: Axes,
    course: Course,
    edges: npt.NDArray[np.float64],
    aus: Sequence[int],
    thresholds: npt.NDArray[np.floating],
) -> None:
    """The strips of a face, the first AU on top."""
    seen = ~np.isnan(course.mean[:, 0])
    for start, end in _runs(~seen):
        axes.axvspan(
            edges[start], edges[end], facecolor=_AWAY, edgecolor="#c4c4c4", hatch="////", linewidth=0
        )
    for row, threshold in enumerate(thresholds):
        base = len(aus) - 1 - row
        low, mean, high = (
            base + _FLOOR + _RISE * part[:, row] for part in (course.low, course.mean, course.high)
        )
        axes.axhline(base, color="#c9c9c9", linewidth=0.6)
        at = base + _FLOOR + _RISE * threshold
        axes.hlines(at, edges[0], edges[-1], colors=_SPREAD, linestyles=":", linewidth=0.8)
        for start, end in _runs(course.share[:, row] >= 0.5):
            axes.fill_between(
                [edges[start], edges[end]], base + 0.03, base + 0.16, color=_PRESENT, linewidth=0
            )
        if len(edges) > BINS:
            axes.fill_between(edges[:-1], low, high, step="post", color=_SPREAD, alpha=0.7, linewidth=0)
        for start, end in _runs(seen):
            line = np.append(mean[start:end], mean[end - 1])
            axes.plot(edges[start : end + 1], line, drawstyle="steps-post", color=_LINE, linewidth=0.9)
    axes.set_yticks([len(aus) - 0.5 - row for row in range(len(aus))], [f"AU{au}" for au in aus])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(0, len(aus))
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(False, axis="y")
    many = "1 frame" if course.frames == 1 else f"{course.frames} frames"
    axes.set_title(f"face {course.face}, in {many}", loc="left", weight="bold")
    if edges[-1] >= 600:
        axes.xaxis.set_major_formatter(lambda seconds, _: _clock(seconds))


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, one past the last) of each stretch that is true."""
    turns = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in turns.reshape(-1, 2)]
