"""How large is a difference by chance? The paper's model with ten seeds, compared with itself.

``python experiments/noise_floor.py [OVERRIDE ...]``. Each pair of seeds is a comparison of two "rows" of one
run each, as the paper makes them, between which there is nothing to find.
"""

import itertools
from pathlib import Path

import numpy as np

from aunet.files import replacing
from aunet.metrics import f1_per_au
from aunet.reproduce import run
from aunet.results import seed_counts
from aunet.statistics import compare, f1_interval

DEFAULTS = ("seed=0,1,2,3,4,5,6,7,8,9",)


def floor(sweep: Path) -> str:
    """Markdown: spread of the seeds, and what comparisons of two of them find."""
    counts = seed_counts(sweep)["ours"]
    f1 = np.array([f1_per_au(count.sum(0)).mean() for count in counts.values()])
    pairs = list(itertools.combinations(counts.values(), 2))
    apart = np.array([abs(a - b) for a, b in itertools.combinations(f1, 2)])
    rejected = np.mean([compare(a, b, resamples=2000).p < 0.05 for a, b in pairs])
    one = np.mean([f1_interval(count).error for count in counts.values()])
    facts = {
        "seeds": f"{len(f1)}",
        "macro F1, mean": f"{f1.mean():.4f}",
        "smallest and largest": f"{f1.min():.4f}, {f1.max():.4f}",
        "standard deviation over seeds": f"{f1.std(ddof=1):.4f}",
        "standard error over videos of one run": f"{one:.4f}",
        "difference of two runs: median": f"{np.median(apart):.4f}",
        "difference of two runs: 95% are below": f"{np.quantile(apart, 0.95):.4f}",
        "pairs further apart than the paper's gain by attention, 0.0268": f"{(apart > 0.0268).mean():.0%}",
        "pairs further apart than the paper's gain by re-weighting, 0.0480": f"{(apart > 0.048).mean():.0%}",
        "pairs that the test over videos tells apart (p < 0.05)": f"{rejected:.0%}",
    }
    lines = [
        "| fact | value |",
        "| --- | ---: |",
        *(f"| {name} | {value} |" for name, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    folder = run("noise_floor", DEFAULTS)
    text = floor(folder)
    with replacing(folder / "floor.md") as temporary:
        temporary.write_text(text)
    print(f"{text}written: {folder / 'floor.md'}")
