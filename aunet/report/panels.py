"""Small figures, one for each AU or row, that stand beside each other on a screen and below on a phone."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aunet.report.curves import RECALLS, THRESHOLDS, Curves, Reliability
from aunet.report.svg import LINES, svg
from aunet.rows import Row, Table

WIDTH = 3.2
"""Inches; fits a phone of 360 px."""

FEWEST = 10
"""Frames below which a bin of probability is left out: its share of positives would be chance."""

History = Mapping[str, Sequence[float]]


def key(place: str, number: int) -> Markup:
    """The line of a row, to stand before its title in the legend of a part of the page."""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **LINES[number])
        axes.set_xlim(0, 2)

    return svg(f"key-{place}-{number}", f"line {number + 1}", (0.5, 0.16), draw)


def learning(number: int, row: Row, histories: Mapping[int, History], highest: float) -> Markup:
    """F1 and losses of a row over the epochs.

    Args:
        number: Of the row.
        row: Whose finished seeds are averaged.
        histories: By seed.
        highest: F1 at the upper end of the axis.
    """
    finished = [histories[seed]["val/f1"] for seed in row.seeds if seed in histories]
    longest = max(len(history["val/f1"]) for history in histories.values())
    last = f", last mean F1 {np.mean([f1[-1] for f1 in finished]):.3f}" if finished else ""

    def lines(axes: Axes, what: str, line: int) -> None:
        style = {"color": LINES[line]["color"], "linestyle": LINES[line]["linestyle"]}
        for history in histories.values():
            epochs = range(1, len(history[what]) + 1)
            axes.plot(epochs, history[what], linewidth=0.6, alpha=0.8, marker=".", markersize=2.5, **style)
        seeds = [histories[seed][what] for seed in row.seeds if seed in histories]
        shared = min(map(len, seeds), default=0)
        mean = np.mean([values[:shared] for values in seeds], 0) if shared else []
        axes.plot(
            range(1, shared + 1), mean, linewidth=2.2, marker=LINES[line]["marker"], markersize=4, **style
        )

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        figure.subplots_adjust(0.15, 0.15, 0.97, 0.97, hspace=0.12)
        lines(above, "val/f1", 0)
        above.set_ylim(0, highest)
        above.set_ylabel("F1")
        lines(below, "train/loss", 1)
        lines(below, "val/loss", 2)
        below.set_ylabel("loss")
        below.set_xlabel("epoch")
        below.set_xlim(0.6, longest + 0.4)
        below.xaxis.get_major_locator().set_params(integer=True)

    said = f"Learning curves of {row.title}: {len(histories)} seed(s), {longest} epoch(s){last}"
    return svg(f"learning-{number}", said, (WIDTH, 2.9), draw)


def precision_recall(table: Table, au: int, rows: Sequence[Row], curves: Mapping[str, Curves]) -> Markup:
    """Precision over recall of one AU."""

    def draw(figure: Figure) -> None:
        axes = _square(figure, "recall", "precision")
        for row, line in zip(rows, LINES, strict=False):
            axes.plot(RECALLS, curves[row.name].precision[:, au], markevery=25, **line)

    said = _said(table, au, rows, "average_precision", "average precision")
    return svg(f"precision-{table.aus[au]}", f"Precision over recall, {said}", (WIDTH, 2.5), draw)


def thresholds(table: Table, au: int, rows: Sequence[Row], curves: Mapping[str, Curves]) -> Markup:
    """F1 of one AU over the threshold, with 0.5 and the tuned thresholds marked."""

    def draw(figure: Figure) -> None:
        axes = _square(figure, "threshold", "F1")
        axes.axvline(0.5, color="black", linewidth=0.9)
        for place, (row, line) in enumerate(zip(rows, LINES, strict=False)):
            found = curves[row.name]
            axes.plot(THRESHOLDS, found.f1[:, au], markevery=25, **line)
            height = np.full(len(found.tuned), 0.03 + 0.05 * place)
            axes.plot(found.tuned[:, au], height, "|", color=line["color"], markersize=6, markeredgewidth=1.2)

    fixed, tuned = (_said(table, au, rows, name, "F1") for name in ("f1", "f1_tuned"))
    said = f"F1 over threshold, at 0.5 {fixed}; tuned {tuned}"
    return svg(f"threshold-{table.aus[au]}", said, (WIDTH, 2.5), draw)


def calibration(table: Table, au: int, rows: Sequence[Row], curves: Mapping[str, Curves]) -> Markup:
    """Share of positive frames over probability of one AU, before and after the loss weights are undone."""

    def lines(axes: Axes, found: Reliability, number: int) -> None:
        enough = found.frames[:, au] >= FEWEST
        frames = found.frames[enough, au]
        promised, present = found.promised[enough, au] / frames, found.present[enough, au] / frames
        axes.plot(promised, present, **LINES[number] | {"markersize": 3})

    def draw(figure: Figure) -> None:
        both = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(0.15, 0.2, 0.97, 0.9, wspace=0.16)
        for axes, title in zip(both, ("as trained", "weights undone"), strict=True):
            axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
            axes.set(title=title, xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        both[0].set_ylabel("share present")
        figure.text(0.56, 0.02, "probability", ha="center")
        for number, row in enumerate(rows):
            lines(both[0], curves[row.name].trained, number)
            lines(both[1], curves[row.name].corrected, number)

    before, after = (_said(table, au, rows, name, "error") for name in ("ece", "ece_corrected"))
    return svg(
        f"calibration-{table.aus[au]}", f"Reliability, {before}; weights undone, {after}", (WIDTH, 2.05), draw
    )


def _square(figure: Figure, x: str, y: str) -> Axes:
    axes = figure.add_axes((0.15, 0.17, 0.81, 0.79))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x, ylabel=y)
    return axes


def _said(table: Table, au: int, rows: Sequence[Row], measure: str, name: str) -> str:
    """A measure of the rows, in words."""
    column = table.aus[au]
    values = [(row.title, row.measures.get(measure, {}).get(column)) for row in rows]
    return f"{name} of {column}: " + "; ".join(
        f"{title} {'undefined' if value is None else format(value, '.3f')}" for title, value in values
    )
