"""The workspace in which the rows of a sweep are compared on the server that their runs were sent to.

``python experiments/dashboard.py runs/table1 [--project aunet] [--entity NAME] [--offline] [--out FILE]``
prints its link. Without a key, or with --offline, it is only built, checked and written to FILE.
"""

import argparse
import sys
from pathlib import Path

from aunet.cells import read_cells
from aunet.runs import RunError
from aunet.tracking import dashboard


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A workspace for comparing the rows of a sweep.")
    parser.add_argument("runs", type=Path, help="folder of the sweep")
    parser.add_argument("--project", default="aunet", help="of the runs")
    parser.add_argument("--entity", help="user or team; default: whose key is set")
    parser.add_argument("--offline", action="store_true", help="build and check it only")
    out = Path("workspace.json")
    parser.add_argument("--out", type=Path, default=out, help="takes it where it is not saved")
    options = parser.parse_args()
    metrics = next((cell.metrics for cell in read_cells(options.runs) if cell.metrics), None)
    if metrics is None:
        raise RunError(f"{options.runs} holds no finished run")
    place = options.project, options.entity, options.offline, options.out
    print(dashboard.create(options.runs.resolve().name, metrics["aus"], *place))


if __name__ == "__main__":
    try:
        main()
    except (RunError, OSError) as error:
        sys.exit(f"aunet: {error}")
