"""Figures of whole tables: differences, F1 of each AU, F1 of each video."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from aunet.report.curves import Curves
from aunet.report.svg import LINES, svg, words
from aunet.rows import Row, Table

LABELS, LETTERS = 2.05, 31
"""Inches for the titles of rows, and how many letters fill a line of them."""

_MORE, _NOT_MORE = "#0072b2", "#6b6b6b"


def forest(table: Table) -> Markup | None:
    """Differences to the reference with their intervals; None where nothing was compared."""
    titles = {row.name: row.title for row in table.rows}
    compared = [(row, row.difference) for row in table.rows if row.difference is not None]
    if not compared:
        return None
    references = {row.reference for row, _ in compared}
    to = f" to {words(titles[str(compared[0][0].reference)], 60, 1)}" if len(references) == 1 else ""
    said = "; ".join(
        f"{row.title}: {found.value:+.3f}, from {found.low:+.3f} to {found.high:+.3f}"
        + (f", to {titles[str(row.reference)]}" if not to else "")
        + (", more than chance" if row.differs else "")
        for row, found in compared
    )
    height = 0.75 + (0.4 if to else 0.5) * len(compared)

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((LABELS / 6.4, 0.5 / height, 3.5 / 6.4, 1 - 0.6 / height))
        axes.axvline(0, color="black", linewidth=0.9)
        for place, (row, found) in enumerate(compared):
            colour = _MORE if row.differs else _NOT_MORE
            axes.plot([found.low, found.high], [place, place], color=colour, solid_capstyle="butt")
            axes.plot([found.low, found.high], [place, place], "|", color=colour, markersize=7)
            face = colour if row.differs else "white"
            axes.plot(found.value, place, "o", markersize=6.5, color=colour, markerfacecolor=face)
            text = f"{found.value:+.4f}{'*' * row.differs}"
            axes.annotate(text, (1.03, place), xycoords=("axes fraction", "data"), va="center")
        labels = [
            words(row.title, LETTERS)
            + ("" if to else f"\n− {words(titles[str(row.reference)], LETTERS - 2, 1)}")
            for row, _ in compared
        ]
        axes.set_yticks(range(len(compared)), labels)
        axes.set_ylim(len(compared) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"difference in macro F1{to}")

    return svg("forest", f"Differences in macro F1{to}: {said}", (6.4, height), draw)


def heat_map(table: Table) -> Markup:
    """F1 of each AU of each row."""
    values = np.array([
        [row.f1_per_au[au].value if au in row.f1_per_au else np.nan for au in table.aus] for row in table.rows
    ])  # fmt: skip
    width, height = LABELS + 0.15 + 0.48 * len(table.aus), 0.4 + 0.36 * len(table.rows)
    best = [
        f"{au} {table.rows[int(np.nanargmax(f1))].title}" for au, f1 in zip(table.aus, values.T, strict=True)
    ]
    said = f"F1 of {len(table.aus)} AUs for {len(table.rows)} rows. Best row of each: {'; '.join(best)}"

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((LABELS / width, 0.05 / height, 1 - (LABELS + 0.1) / width, 1 - 0.4 / height))
        axes.grid(False)
        colours = mpl.colormaps["cividis"]
        axes.pcolormesh(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=1, edgecolors="white")
        for (line, column), value in np.ndenumerate(values):
            is_best = value == np.nanmax(values[:, column])
            axes.text(
                column + 0.5,
                line + 0.5,
                "–" if np.isnan(value) else f"{value:.2f}".removeprefix("0"),
                color="white" if value < 0.5 else "black",
                fontweight="bold" if is_best else "normal",
                ha="center",
                va="center",
            )
        axes.set_xticks(np.arange(len(table.aus)) + 0.5, table.aus)
        axes.set_yticks(np.arange(len(table.rows)) + 0.5, [words(row.title, LETTERS) for row in table.rows])
        axes.invert_yaxis()
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return svg("heat-map", said, (width, height), draw)


def videos(rows: Sequence[Row], curves: Mapping[str, Curves]) -> Markup:
    """F1 of each video, from the worst to the best of the first row."""
    first = curves[rows[0].name]
    order = np.argsort(first.video_f1, kind="stable")
    order = order[~np.isnan(first.video_f1[order])]
    middle = "; ".join(f"{row.title} {np.nanmedian(curves[row.name].video_f1):.3f}" for row in rows)
    said = f"F1 of {len(order)} validation videos, sorted by {rows[0].title}. Median: {middle}"

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.075, 0.14, 0.915, 0.83))
        for row, line in reversed(list(zip(rows, LINES, strict=False))):  # the first one on top
            main = row is rows[0]
            axes.plot(
                np.arange(1, len(order) + 1),
                curves[row.name].video_f1[order],
                linestyle="",
                marker=line["marker"],
                color=line["color"],
                markersize=4 if main else 3.2,
                markerfacecolor=line["color"] if main else "none",
                markeredgewidth=0.7,
            )
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(0, len(order) + 1)
        axes.set_xlabel("videos, from the worst to the best")
        axes.set_ylabel("F1 of the video")

    return svg("videos", said, (7.6, 3.4), draw)
