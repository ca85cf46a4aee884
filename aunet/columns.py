"""What a table says: header and cells of its parts, and the notes below them."""

from collections.abc import Callable

from aunet.rows import ALPHA, Row, Table, few_groups

NONE = "–"

MEASURES = {
    "f1": "F1",
    "f1_tuned": "F1 tuned",
    "average_precision": "AP",
    "roc_auc": "AUC",
    "balanced_accuracy": "bal. acc.",
    "mcc": "MCC",
    "f1_skew_normalised": "F1 skew-n.",
    "brier": "Brier",
    "brier_corrected": "Brier corr.",
    "ece": "ECE",
    "ece_corrected": "ECE corr.",
}
"""Names of ``aunet.measures.summary`` -> headers."""


def result_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the result: which row wins, and whether by more than chance."""
    header = ["row", "F1", "± seeds", "95% interval", "difference", "p", "paper", "seeds"]
    return header, [
        [
            row.title,
            _f1(row),
            NONE if row.spread is None else f"{row.spread:.4f}",
            NONE if row.f1 is None else f"{row.f1.low:.3f}–{row.f1.high:.3f}",
            NONE if row.difference is None else f"{row.difference.value:+.4f}" + "*" * row.differs,
            NONE if row.p_corrected is None else _p(row.p_corrected),
            NONE if row.paper_f1 is None else f"{row.paper_f1:.4f}",
            _seeds(row),
        ]
        for row in table.rows
    ]


def measure_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the macro means of all measures."""
    shown = [name for name in MEASURES if any(name in row.measures for row in table.rows)]
    return ["row", *(MEASURES[name] for name in shown)], [
        [row.title, *(_value(row.measures.get(name, {}).get("macro")) for name in shown)]
        for row in table.rows
    ]


def cost_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of what a row costs."""
    return ["row", "backbone starts", "params (M)", "GFLOP", "epochs", "train (s)"], [
        [
            row.title,
            row.starts or NONE,
            NONE if row.parameters is None else f"{row.parameters / 1e6:.2f}",
            NONE if row.flops is None else f"{row.flops / 1e9:.2f}",
            NONE if row.epochs is None else str(row.epochs),
            NONE if row.seconds is None else f"{row.seconds:.0f}",
        ]
        for row in table.rows
    ]


def au_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the F1 of single AUs, in per cent."""
    return ["row", *table.aus], [
        [row.title, *(f"{e.value:.1%}"[:-1] if (e := row.f1_per_au.get(au)) else NONE for au in table.aus)]
        for row in table.rows
    ]


PARTS: tuple[tuple[str, Callable[[Table], tuple[list[str], list[list[str]]]]], ...] = (
    ("Result", result_cells),
    ("Measures, mean over the AUs", measure_cells),
    ("F1 of each AU, in per cent", au_cells),
    ("Cost", cost_cells),
)


def notes(table: Table) -> list[str]:
    """What a reader has to know: data, missing runs, how to read the figures, what is the paper's."""
    found = [
        f"{row.title}, seed {seed}: {why}"
        for row in table.rows
        for seed, why in sorted(row.unfinished.items())
    ]
    if not table.data:
        return found
    found += [f"trivial predictor, {name}: F1 {value:.4f}" for name, value in table.trivial.items()]
    found.append(
        f"F1: macro over the AUs, measured on the validation frames of {table.data}, {table.groups} videos "
        f"or people; 95% intervals are over these and over the seeds"
    )
    if any(row.paper_f1 is not None for row in table.rows):
        found.append(
            "paper: as reported there for Aff-Wild2's validation set (one run each), not measured here"
        )
    if few_groups(table):
        found.append(f"{table.groups} videos or people are few: intervals may cover less than 95%")
    found += _difference_notes(table)
    if any(len(row.seeds) == 1 for row in table.rows):
        found.append(
            "rows of one seed: the test speaks of these trained networks, not of what another seed gives"
        )
    if any("f1_tuned" in row.measures for row in table.rows):
        found.append(
            "F1 tuned: each AU's threshold from the other four fifths of the videos; all else at probability "
            "0.5; corrected: after undoing the loss weights in the probabilities"
        )
    return found


def shown_parts(table: Table) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and cells of the parts that have anything to show."""
    parts = [(title, *cells(table)) for title, cells in PARTS]
    return [(title, header, body) for title, header, body in parts if len(header) > 1]


def _difference_notes(table: Table) -> list[str]:
    """Which row is compared with which, and how."""
    titles = {row.name: row.title for row in table.rows}
    compared: dict[str, list[str]] = {}
    without: dict[str, list[str]] = {}
    for row in table.rows:
        if row.reference not in (None, row.name) and row.seeds:
            kind = without if row.difference is None else compared
            kind.setdefault(titles[str(row.reference)], []).append(row.title)
    found = [
        f"no difference to {reference}, which has finished none of their seeds: {', '.join(rows)}"
        for reference, rows in without.items()
    ]
    if not compared:
        return found
    smallest = [row.difference.detectable for row in table.rows if row.difference is not None]
    if len(compared) == 1:
        to = f"to {next(iter(compared))}"
    else:
        to = "; ".join(f"{', '.join(rows)} to {reference}" for reference, rows in compared.items())
    return [
        *found,
        f"difference: {to}, over the seeds that both have; p: sign-flip test over videos, corrected for "
        f"{len(smallest)} tests (Holm); {star()}",
        f"smallest true difference that these videos and seeds would show four times in five: "
        f"{min(smallest):.3f} to {max(smallest):.3f}, by row",
    ]


def star() -> str:
    """What the star behind a difference means."""
    return f"*: several seeds, p < {ALPHA}, and 0 lies outside the difference's 95% interval"


def _f1(row: Row) -> str:
    if row.f1 is not None:
        return f"{row.f1.value:.4f}"
    # Of several seeds without any finished one, the state that needs most attention.
    states = [why.partition(":")[0] for why in row.unfinished.values()]
    return next((s for s in ("failed", "interrupted", "running", "waiting") if s in states), "missing")


def _seeds(row: Row) -> str:
    asked = len(row.seeds) + len(row.unfinished)
    return f"{len(row.seeds)} of {asked}" if row.unfinished else str(asked)


def _value(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
