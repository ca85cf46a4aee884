"""Figures of matplotlib as inline SVG: the same bytes for the same numbers, and safe beside each other."""

import io
import re
import textwrap
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and in the reader's own font
    "text.parse_math": False,  # titles of rows may hold $
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#d8d8d8",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}

LINES: tuple[dict[str, Any], ...] = (
    {"color": "#0072b2", "linestyle": "-", "marker": "o"},
    {"color": "#d55e00", "linestyle": "--", "marker": "s"},
    {"color": "#007a5a", "linestyle": "-.", "marker": "^"},
    {"color": "#8c4a86", "linestyle": ":", "marker": "D"},
)
"""Of the rows that share a panel: Okabe and Ito's colours, dark enough on white, and shapes for print."""

_REFERENCE = re.compile(r"(?<=#)[\w-]+")


def svg(name: str, said: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> Markup:
    """Draws a figure.

    Args:
        name: Of the figure, not that of another one on the page.
        said: What it shows, for readers who do not see it.
        size: Width and height in inches of 96 px.
        draw: Draws into a figure of 1 unit for each inch.

    Returns:
        An ``svg`` element whose ids are those of no other figure.
    """
    text = io.StringIO()
    with mpl.rc_context(), warnings.catch_warnings():
        # matplotlib's font is only measured with; what it lacks, the reader's has.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=size)
        draw(figure)
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(text.getvalue())  # noqa: S314 - written two lines above
    width, height = (round(96 * side) for side in size)
    kept = {"viewBox": root.attrib["viewBox"], "width": str(width), "height": str(height)}
    root.attrib.clear()
    root.attrib |= {**kept, "role": "img", "aria-label": said}
    _make_own(root, name)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by ElementTree


def words(text: str, width: int, lines: int = 2) -> str:
    """A title for a figure: broken into lines, and cut where they do not suffice."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …")) or text[:width]


def _make_own(root: ElementTree.Element, name: str) -> None:
    """Takes out what would act on the whole page, and makes ids the figure's own."""
    referred: set[str] = set()
    for parent in root.iter():
        parent.tag = parent.tag.partition("}")[2] or parent.tag
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
        for key, value in list(parent.attrib.items()):
            if key != "id" and "#" in value and (key.endswith("href") or value.startswith("url(")):
                referred.update(_REFERENCE.findall(value))
                del parent.attrib[key]
                parent.attrib[key.partition("}")[2] or key] = _REFERENCE.sub(rf"{name}-\g<0>", value)
    for element in root.iter():
        own = element.attrib.pop("id", "")
        if own in referred:
            element.set("id", f"{name}-{own}")
