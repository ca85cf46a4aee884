"""Trains every row of the paper's Table 1 and prints our table beside the paper's.

``python experiments/reproduce_table1.py [OVERRIDE ...]``; for instance ``data=affwild2 data.root=DIR``,
``seed=0,1,2`` or ``logger=wandb``. Rows are the files of conf/experiment/table1/. Finished runs are skipped,
interrupted ones go on: the same command can be given again at any time.
"""

import sys
from pathlib import Path

import torch
from rich.console import Console

from aunet import results
from aunet.host import usable_cores
from aunet.train import CONF, USER_ERRORS, main, prepare_data

# The paper's order; rows that were added follow by name.
PAPER = (
    "baseline", "resnet50", "inception_v3", "efficientnet", "efficientnet_lite0",
    "without_attention", "without_reweighting", "ours",
)  # fmt: skip


def reproduce(overrides: list[str]) -> int:
    """Runs the sweep and writes the table of its finished rows.

    Returns:
        Exit status: 0 when every row has finished.
    """
    given = dict(override.split("=", 1) for override in overrides if "=" in override)
    sweep = Path(given.get("runs", "runs")) / given.get("sweep", "table1")
    rows = sorted(file.stem for file in (CONF / "experiment" / "table1").glob("*.yaml"))
    rows.sort(key=lambda row: (PAPER.index(row) if row in PAPER else len(PAPER), row))
    experiments = ",".join(f"table1/{row}" for row in rows)
    done = {entry["row"] for entry in results.read_rows(sweep)}
    launcher = [] if "hydra/launcher" in given or done >= set(rows) else side_by_side()
    # Once, with its progress, before the rows ask for it.
    prepare_data([override for override in overrides if override.startswith(("data=", "data."))])
    sys.argv = [sys.argv[0], "--multirun", f"experiment={experiments}", *launcher, *overrides]
    status = 0
    try:
        main()
    except SystemExit as stop:  # Hydra's, after all rows, where one has failed
        status = stop.code if isinstance(stop.code, int) else 1
    finished = results.read_rows(sweep, PAPER)
    if not finished:
        return status or 1
    trivial = results.trivial_f1(sweep)
    files = results.write_table(sweep, finished, trivial)
    # Full width even where the output goes to a file, so that no title is broken.
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(results.terminal(finished))
    for note in results.notes(finished, trivial):
        console.print(f"- {note}")
    if missing := [row for row in rows if row not in {entry["row"] for entry in finished}]:
        console.print(f"NOT FINISHED: {', '.join(missing)}; see above for the reason, then run this again")
        status = status or 1
    console.print(f"written: {', '.join(map(str, files))}")
    return status


def side_by_side() -> list[str]:
    """Overrides that train several rows at once on a CPU: networks this small leave cores idle one by one."""
    jobs = min(4, usable_cores())
    if torch.cuda.is_available() or jobs == 1:
        return []
    return [
        "hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}", f"host.threads={usable_cores() // jobs}",
        "progress=false",
    ]  # fmt: skip


if __name__ == "__main__":
    try:
        sys.exit(reproduce(sys.argv[1:]))
    except USER_ERRORS as error:
        sys.exit(f"aunet: {error}")
