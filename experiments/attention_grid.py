"""Does attention help, whose, and from which size of the feature map?

``python experiments/attention_grid.py [OVERRIDE ...]``: no attention, the paper's (one map for all AUs) and a
map for each AU, on feature maps of 1x1 to 7x7, the readings of the paper's text. By default on
``rendered_medium`` with three seeds. At 1x1 all three are the same function of the same weights: what differs
there is chance.
"""

import itertools
from pathlib import Path

from aunet.files import replacing
from aunet.reproduce import run
from aunet.results import seed_counts
from aunet.rows import more_than_chance
from aunet.statistics import compare, f1_interval, holm

MAPS = ("1x1", "2x2", "3x3", "4x4", "7x7")
ATTENTIONS = {"none": "none", "shared": "the paper's", "per_au": "per AU"}
DEFAULTS = ("data=rendered_medium", "seed=0,1,2")


def grid(sweep: Path) -> str:
    """Markdown: macro F1 of each attention on each map, and the differences on the same map."""
    counts = seed_counts(sweep)
    pairs = list(itertools.combinations(ATTENTIONS, 2))
    found, seeds_of = {}, {}
    for size, (one, other) in itertools.product(MAPS, pairs):
        a, b = counts.get(f"{other}_{size}", {}), counts.get(f"{one}_{size}", {})
        if seeds := sorted(a.keys() & b.keys()):
            seeds_of[size, one, other] = len(seeds)
            found[size, one, other] = compare([a[s] for s in seeds], [b[s] for s in seeds])
    corrected = dict(zip(found, holm([difference.p for difference in found.values()]), strict=True))
    header = ["map", *ATTENTIONS.values(), *(f"{ATTENTIONS[b]} less {ATTENTIONS[a]}" for a, b in pairs)]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for size in MAPS:
        cells = [size]
        for attention in ATTENTIONS:
            runs = list(counts.get(f"{attention}_{size}", {}).values())
            cells.append(f"{f1_interval(runs).value:.4f} (seeds: {len(runs)})" if runs else "not run")
        for pair in pairs:
            difference = found.get((size, *pair))
            if difference is None:
                cells.append("not run")
                continue
            star = "*" * more_than_chance(difference, corrected[size, *pair], seeds_of[size, *pair])
            cells.append(
                f"{difference.value:+.4f}{star} [{difference.low:+.3f}, {difference.high:+.3f}], "
                f"p {corrected[size, *pair]:.3f}"
            )
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    note = (
        "In brackets: 95% intervals over videos and seeds; p: sign-flip test over videos, corrected for "
        f"{len(found)} tests (Holm); *: several seeds, p < 0.05, and 0 lies outside the interval."
    )
    return f"{text}\n\n{note}\n"


if __name__ == "__main__":
    folder = run("attention_grid", DEFAULTS, [f"{a}_{size}" for size in MAPS for a in ATTENTIONS])
    text = grid(folder)
    with replacing(folder / "grid.md") as temporary:
        temporary.write_text(text)
    print(f"{text}written: {folder / 'grid.md'}")
