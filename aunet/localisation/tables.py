"""Scores of maps for people and programs: terminal, Markdown, CSV and JSON."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from aunet.files import replacing
from aunet.localisation.estimates import COMPARED, MACRO, OWN, UNION, Score
from aunet.localisation.maps import PRIOR_WIDTH
from aunet.localisation.scores import MEASURES, SHARE
from aunet.localisation.study import RowFacts, Study
from aunet.statistics import FEW_VIDEOS
from aunet.tables import WIDTH

METHODS = {
    "attention": "attention",
    "grad_cam": "Grad-CAM",
    "attention_others": "attention, other AUs",
    "grad_cam_others": "Grad-CAM, other AUs",
    "attention_untrained": "attention, untrained",
    "grad_cam_untrained": "Grad-CAM, untrained",
    "uniform": "uniform",
    "centre": "centre prior",
}
"""Names of the methods, in the order of the tables."""

_LESS = {key: name.rpartition(", ")[2] for key, name in METHODS.items()}
"""Their names behind "less", where it is clear what of."""

Part = tuple[str, list[str], list[list[str]]]
"""Title, header, and lines of cells; the line of a row's name has no other cell."""


def parts(study: Study) -> list[Part]:
    """Scores and differences against both targets, and the energy of single AUs."""
    if not study.scores:
        return []
    short = [au.removeprefix("AU") for au in study.aus]
    return [
        ("Each AU against its own region, mean over the AUs", ["", *MEASURES], _macro(study, OWN)),
        ("All AUs of a frame against the union of their regions", ["", *MEASURES], _macro(study, UNION)),
        ("Energy in the own region of each AU, in per cent", ["AU", *short], _single(study)),
    ]


def _macro(study: Study, target: str) -> list[list[str]]:
    found = {
        (s.row, s.method, s.less, s.measure): s for s in study.scores if (s.target, s.au) == (target, MACRO)
    }
    pairs = [(one, less) for one in METHODS for less in ("", *(b for a, b in COMPARED if a == one))]
    lines = []
    for row, title in _rows(study):
        lines.append([title])
        for one, less in pairs:
            if (row, one, less, MEASURES[0]) in found:
                name = f"  less {_LESS[less]}" if less else METHODS[one]
                lines.append([name, *(_figure(found[row, one, less, measure]) for measure in MEASURES)])
    return lines


def _single(study: Study) -> list[list[str]]:
    found = {
        (s.row, s.method, s.au): f"{100 * s.value:.1f}"
        for s in study.scores
        if (s.target, s.measure, s.less) == (OWN, "energy", "")
    }
    lines = []
    for row, title in _rows(study):
        lines.append([title])
        for method, name in METHODS.items():
            if (row, method, MACRO) in found:
                lines.append([name, *(found.get((row, method, au), "–") for au in study.aus)])
    return lines


def _rows(study: Study) -> list[tuple[str, str]]:
    """Names and titles; the priors, which are no row's, first."""
    return [("", "any network"), *((row.name, row.name) for row in study.rows)]


def _figure(score: Score) -> str:
    """Value and interval; of a difference with signs, and a star where the interval leaves out 0."""
    if not score.less:
        return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
    star = "*" * (not score.low <= 0 <= score.high)
    return f"{score.value:+.3f}{star} [{score.low:+.3f}, {score.high:+.3f}]"


def notes(study: Study) -> list[str]:
    """What a reader has to know."""
    found = [f"left out: {reason}" for reason in study.left_out]
    found += [_about(row) for row in study.rows]
    frames = f"{study.frames} validation frames of {study.data}, {study.groups} videos or people"
    if not study.scores:
        unknown = f"{study.data} does not tell where AUs moved the face, as rendered sets do (in truth/)"
        return [*found, f"no scores: {unknown}; the pictures show {frames}"]
    shown = ", ".join(f"{au} {count}" for au, count in zip(study.aus, study.shown, strict=True))
    found += [
        f"{frames}; frames scored: {shown}",
        f"region: cells of a 28x28 grid that the AU alone moved by at least {SHARE:.0%} of what it moved any "
        f"cell in that frame",
        "energy: share of the map inside the region, of the uniform map the region's share of the crop; "
        "pointing: the maximum lies inside; rank: Spearman's correlation of map and displacement",
        "maps are as coarse as the network's: a position of 2x2 or 3x3 is larger than most AUs' regions",
        f"centre prior: Gaussian at the middle of the aligned landmarks, standard deviation "
        f"{PRIOR_WIDTH:.0f} of 112 pixels",
        "untrained: the same network with random weights, its normalisation set on such frames; other AUs: "
        "the mean of the maps of all AUs but the one whose region it is",
        "in brackets 95% intervals over videos, and over seeds where there are several; *: 0 lies outside, "
        "not corrected for the number of differences",
        "agreement with where the surface moved is no proof that the network decides by what lies there: "
        "each position has seen most of the face",
    ]
    if study.groups < FEW_VIDEOS:
        found.append(f"{study.groups} videos or people are few: intervals may cover less than 95%")
    return found


def _about(row: RowFacts) -> str:
    height, width = row.map_size
    seeds = ", ".join(map(str, row.seeds))
    said = f"{row.name}: {row.title}; seeds {seeds}; map {height}x{width}, attention: {row.attention}"
    if height * width == 1:
        said += "; one position cannot look anywhere, its maps are uniform"
    elif row.fixed is not None:
        said += f", greatest at one and the same position in {row.fixed:.0%} of the frames"
    if row.empty:
        said += f"; {row.empty:.1%} of its Grad-CAM maps are 0 everywhere and count as uniform"
    return said


def markdown(study: Study) -> str:
    """All parts, notes below."""
    lines = []
    for title, header, body in parts(study):
        cells = [header, ["---"] + ["---:"] * (len(header) - 1)]
        cells += [line if len(line) > 1 else [f"**{line[0]}**"] + [""] * (len(header) - 1) for line in body]
        lines += [f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in cells), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes(study))]) + "\n"


def as_json(study: Study) -> str:
    """Everything, to six decimals; a line for each score."""
    content = asdict(study) | {"notes": notes(study)}
    del content["pictures"]
    whole = json.dumps(content, allow_nan=False)
    short = json.loads(whole, parse_float=lambda digits: round(float(digits), 6))
    return json.dumps(short).replace("}, {", "},\n{") + "\n"


def as_csv(study: Study) -> str:
    """A line for each score and each difference."""
    text = io.StringIO()
    columns = ["row", "method", "less", "target", "au", "measure", "value", "low", "high", "error", "by_seed"]
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for score in study.scores:
        writer.writerow(asdict(score) | {"by_seed": " ".join(map(str, score.by_seed))})
    return text.getvalue()


def write_scores(folder: Path, study: Study) -> list[Path]:
    """Writes ``scores.md``, ``.json`` and ``.csv``, if there are any scores; returns the files."""
    if not study.scores:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for suffix, write in (("md", markdown), ("json", as_json), ("csv", as_csv)):
        files.append(folder / f"scores.{suffix}")
        with replacing(files[-1]) as temporary:
            temporary.write_text(write(study), "utf-8")
    return files


def print_scores(study: Study) -> None:
    """Prints all parts and the notes, in 100 columns also where the output goes to a file."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal or console.width < WIDTH:
        console.width = WIDTH
    for title, header, body in parts(study):
        table = RichTable(
            title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
        )
        table.add_column(header[0], overflow="fold")
        for index, name in enumerate(header[1:], 1):
            table.add_column(
                name, justify="right", min_width=max(len(line[index]) for line in body if len(line) > 1)
            )
        for line in body:
            table.add_row(*line)
        console.print(table)
    for note in notes(study):
        console.print(f"- {note}")
