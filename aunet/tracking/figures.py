"""Pictures of what a network detects and promises, a panel for each AU, as pixels that any logger takes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aunet import measures
from aunet.facs import au_column
from aunet.thresholds import Labels, Probs, detection_curve, rankings

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) RGB."""

COLUMNS = 4
PANEL = 2.0
"""Width and height of a panel in inches."""

_POINTS = 500
"""That a curve is drawn with; more cannot be told apart."""


def precision_recall(probs: Probs, labels: Labels, aus: Sequence[int]) -> Picture:
    """Precision over recall of each AU as the threshold falls; dotted: what detecting at random gives.

    Args:
        probs: (N, num_aus) in [0, 1].
        labels: (N, num_aus) in {0, 1, -1}.
        aus: AU number of each column.
    """
    ranked = rankings(probs, labels)
    area = measures.average_precision(probs, labels)

    def draw(axes: Axes, au: int) -> None:
        ranking = ranked[au]
        if not ranking.present.any():
            return
        _, true, false = detection_curve(ranking)
        drawn = np.unique(np.linspace(0, len(true) - 1, _POINTS).astype(np.intp))
        axes.step(true[drawn] / true[-1], true[drawn] / (true + false)[drawn], where="pre")
        axes.axhline(ranking.present.mean(), linestyle=":", color="0.5")
        axes.set_title(f"{au_column(aus[au])}  AP {area[au]:.2f}")

    return _panels(aus, "recall", "precision", draw)


def reliability(probs: Probs, labels: Labels, aus: Sequence[int]) -> Picture:
    """Share of positive frames over the probability of each AU; dotted: what is promised is kept.

    A dot for each bin of ``measures.reliability`` that holds frames, the larger the more it holds.

    Args:
        probs: See ``precision_recall``, as the others.
        labels: See there.
        aus: See there.
    """
    errors = measures.ece(probs, labels)
    frames, promised, present = measures.reliability(probs, labels)

    def draw(axes: Axes, au: int) -> None:
        full = frames[:, au] > 0
        count = frames[full, au]
        if not len(count):
            return
        mean, share = promised[full, au] / count, present[full, au] / count
        axes.plot([0, 1], [0, 1], linestyle=":", color="0.5")
        axes.plot(mean, share)
        axes.scatter(mean, share, s=4 + 60 * count / count.sum())
        axes.set_title(f"{au_column(aus[au])}  ECE {errors[au]:.2f}")

    return _panels(aus, "probability", "share present", draw)


def picture_of(figure: Figure) -> Picture:
    """The pixels of a figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: Picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    return pixels


def _panels(aus: Sequence[int], x: str, y: str, draw: Callable[[Axes, int], Any]) -> Picture:
    columns = min(COLUMNS, len(aus))
    rows = -(-len(aus) // columns)
    figure = Figure(figsize=(PANEL * columns, PANEL * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(aus) :]:
        axes.set_visible(False)
    for au, axes in enumerate(grid.flat[: len(aus)]):
        axes.set(xlim=(0, 1), ylim=(0, 1.02), title=au_column(aus[au]))
        draw(axes, au)
    figure.supxlabel(x, fontsize="small")
    figure.supylabel(y, fontsize="small")
    return picture_of(figure)
