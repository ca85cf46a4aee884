"""Trains every row of the paper's Table 1 and prints our table beside the paper's.

``python experiments/reproduce_table1.py [OVERRIDE ...]``; for instance ``data=affwild2 data.root=DIR``,
``seed=0,1,2`` or ``logger=wandb``. Rows are the files of conf/experiment/table1/. Finished runs are skipped,
interrupted ones go on: the same command can be given again at any time.
"""

import sys
from pathlib import Path

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, HydraException

from aunet.config import CONF, prepare_data
from aunet.processes import usable_cores
from aunet.results import TABLE1, show_table
from aunet.train import USER_ERRORS, main


def reproduce(overrides: list[str]) -> int:
    """Runs the sweep and writes the table of its finished rows.

    Returns:
        Exit status: 0 when every row has finished with every seed.
    """
    given = {override.key_or_group: override for override in map(parsed, overrides)}
    sweep = Path(values(given, "runs", "runs")[0]) / values(given, "sweep", "table1")[0]
    rows = sorted(file.stem for file in (CONF / "experiment" / "table1").glob("*.yaml"))
    rows.sort(key=lambda row: (TABLE1.index(row) if row in TABLE1 else len(TABLE1), row))
    asked = [f"{row}/seed{seed}" for row in rows for seed in values(given, "seed", "0")]
    launcher = [] if "hydra/launcher" in given or not unfinished(sweep, asked) else side_by_side()
    # Once, with its progress, before the rows ask for it.
    prepare_data([override for override in overrides if override.startswith(("data=", "data."))])
    experiments = ",".join(f"table1/{row}" for row in rows)
    sys.argv = [sys.argv[0], "--multirun", f"experiment={experiments}", *launcher, *overrides]
    status = 0
    try:
        main()
    except SystemExit as stop:  # Hydra's, after all rows, where one has failed
        status = stop.code if isinstance(stop.code, int) else 1
    show_table(sweep)
    if missing := unfinished(sweep, asked):
        print(f"NOT FINISHED: {', '.join(missing)}; see above for the reasons, then run this again")
        status = status or 1
    return status


def parsed(override: str) -> Override:
    """One override of the command line, as Hydra reads it."""
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise CompactHydraException(f"{override}: {error}") from None


def values(given: dict[str, Override], key: str, default: str) -> list[str]:
    """What the command line says a key is, one value or those of a sweep."""
    if key not in given:
        return [default]
    override = given[key]
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_iterator()]
    return [str(override.value())]


def unfinished(sweep: Path, asked: list[str]) -> list[str]:
    """Those of the runs that have left no metrics.json."""
    return [run for run in asked if not (sweep / run / "metrics.json").exists()]


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
