"""Whole experiments: every row of a folder of ``conf/experiment`` with every seed, and their table."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, HydraException

from aunet.cells import State, read_cells
from aunet.command import main
from aunet.config import CONF, prepare_data
from aunet.failures import USER_ERRORS
from aunet.results import read_table
from aunet.tables import print_table, write_table


def reproduce(
    experiment: str, arguments: Sequence[str], defaults: Sequence[str] = (), order: Sequence[str] = ()
) -> Path:
    """Runs an experiment's sweep, prints its table and writes it into the sweep's folder.

    Finished runs are skipped and interrupted ones go on: the same call can be made again at any time.

    Args:
        experiment: Folder in ``conf/experiment``, whose files are the rows.
        arguments: Overrides from the command line, Hydra's among them, such as ``hydra/launcher=slurm``.
        defaults: Overrides that hold where the command line says nothing else.
        order: Rows that come first; others follow by name.

    Returns:
        The sweep's folder.

    Raises:
        SystemExit: A run has not finished; the table of the others is printed all the same.
    """
    given = {override.key_or_group: override for override in map(_parsed, arguments)}
    overrides = [word for word in defaults if _parsed(word).key_or_group not in given] + list(arguments)
    known = {override.key_or_group: override for override in map(_parsed, overrides)}
    sweep = Path(_values(known, "runs", "runs")[0]) / _values(known, "sweep", experiment)[0]
    rows = sorted(file.stem for file in (CONF / "experiment" / experiment).glob("*.yaml"))
    rows.sort(key=lambda row: order.index(row) if row in order else len(order))
    done = {(cell.row, str(cell.seed)) for cell in read_cells(sweep) if cell.state is State.DONE}
    if "hydra/launcher" not in given and not done.issuperset(
        (row, seed) for row in rows for seed in _values(known, "seed", "0")
    ):
        overrides.append("hydra/launcher=local")
    # Once, with its progress, before the rows ask for it.
    prepare_data([word for word in overrides if word.startswith(("data=", "data."))])
    # Seeds first: after one of them there is a whole table.
    experiments = ",".join(f"{experiment}/{row}" for row in rows)
    sys.argv = [sys.argv[0], "--multirun", *overrides, f"experiment={experiments}"]
    status: str | int | None = 0
    try:
        main()
    except SystemExit as stop:  # after all rows, where one has failed
        status = stop.code
    table = read_table(sweep)
    if table.rows:
        print_table(table)
        print(f"written: {', '.join(map(str, write_table(sweep, table)))}")  # noqa: T201
    if status:
        sys.exit(status)
    return sweep


def run(experiment: str, defaults: Sequence[str] = (), order: Sequence[str] = ()) -> Path:
    """``reproduce`` for a script: overrides from ``sys.argv``; what a user has to mend ends in a sentence."""
    try:
        return reproduce(experiment, sys.argv[1:], defaults, order)
    except USER_ERRORS as error:
        sys.exit(f"aunet: {error}")


def _parsed(override: str) -> Override:
    """One override of the command line, as Hydra reads it."""
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise CompactHydraException(f"{override}: {error}") from None


def _values(given: dict[str, Override], key: str, default: str) -> list[str]:
    """What the command line says a key is, one value or those of a sweep."""
    if key not in given:
        return [default]
    override = given[key]
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_iterator()]
    return [str(override.value())]
