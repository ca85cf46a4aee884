"""Which weights does the loss need? None, the paper's Eq. 4, milder ones, focal and asymmetric losses.

``python experiments/reweighting.py [OVERRIDE ...]``. Weights of the positive term move all probabilities up,
and so do for F1 at 0.5 what a lower threshold does: the column "F1 tuned" (thresholds from other videos)
tells how much of a loss's gain is left when every row may choose its thresholds.
"""

from aunet.reproduce import run

ROWS = ("none", "eq4", "sqrt", "effective_number", "focal", "asymmetric")

if __name__ == "__main__":
    run("reweighting", ("seed=0,1,2",), ROWS)
