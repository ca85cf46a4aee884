"""``aunet table``, ``report``, ``status`` and ``sync``: what is told of sweeps."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of ``aunet``."""
    table = commands.add_parser("table", help="print and write the table of one sweep or several")
    table.add_argument("runs", nargs="+", help="folder of a sweep, for instance runs/table1")
    table.add_argument("--reference", metavar="ROW", help="compare all with it; default: as rows say, ours")
    table.add_argument(
        "--format",
        choices=["terminal", "markdown", "csv", "json", "latex"],
        default="terminal",
        help="of the output",
    )
    table.add_argument("--out", metavar="DIR", help="write all formats there; default: the sweep's folder")
    table.set_defaults(call=_table)
    report = commands.add_parser("report", help="write one HTML page about one sweep or several")
    report.add_argument("runs", nargs="+", help="folder of a sweep, for instance runs/table1")
    report.add_argument("-o", "--out", metavar="FILE", default="report.html", help="default: report.html")
    report.add_argument(
        "--data", metavar="DIR", help="where the data lie now; default: where runs found them"
    )
    report.add_argument("--reference", metavar="ROW", help="compare all with it; default: as rows say, ours")
    report.add_argument(
        "--faces",
        action="store_true",
        help="embed pictures of licensed data, too; do not pass such a page on",
    )
    report.set_defaults(call=_report)
    status = commands.add_parser("status", help="how far each run of a sweep is: rows x seeds, live")
    status.add_argument("runs", nargs="+", help="folder of a sweep, or of several")
    status.set_defaults(call=_status)
    sync = commands.add_parser("sync", help="upload finished runs that were logged offline")
    sync.add_argument("runs", nargs="+", help="folder of a sweep, or of several")
    sync.add_argument("--dry-run", action="store_true", help="say what would be uploaded")
    sync.add_argument("--all", action="store_true", help="also attempts that did not come to their end")
    sync.set_defaults(call=_sync)


def _table(options: argparse.Namespace) -> None:
    from aunet.results import read_table
    from aunet.tables import TEXT, print_table, write_table

    _require_sweeps(options.runs)
    table = read_table(options.runs, options.reference)
    if options.format == "terminal":
        print_table(table)
    else:
        print(TEXT[options.format](table), end="")
    # Of several sweeps no folder is the table's by itself.
    out = options.out or (options.runs[0] if len(options.runs) == 1 else None)
    if out:
        print(f"written: {', '.join(map(str, write_table(out, table)))}", file=sys.stderr)


def _report(options: argparse.Namespace) -> None:
    from aunet.report import write_report

    _require_sweeps(options.runs)
    report = write_report(options.runs, options.out, options.data, options.reference, options.faces)
    for remark in report.remarks:
        print(remark, file=sys.stderr)
    print(f"written: {options.out} ({report.size / 1e6:.1f} MB)")


def _require_sweeps(folders: Sequence[str]) -> None:
    from aunet.cells import read_cells

    for folder in folders:
        if not read_cells(Path(folder)):
            sys.exit(f"aunet: {folder} holds no sweep (expected <row>/seed<k>/metrics.json)")


def _status(options: argparse.Namespace) -> None:
    from aunet.status import find_sweeps, watch

    watch(find_sweeps(options.runs))


def _sync(options: argparse.Namespace) -> None:
    from aunet.status import find_sweeps
    from aunet.tracking.sync import find_attempts, upload

    found = find_attempts(find_sweeps(options.runs), options.all)
    left = [attempt for attempt in found if not attempt.mark.exists()]
    failed = False
    if options.dry_run:
        for attempt in left:
            print(f"would be uploaded: {attempt.name}")
    else:
        for attempt, fault in upload(left).items():
            failed |= bool(fault)
            print(f"{'failed' if fault else 'uploaded'}: {attempt.name}{fault and f': {fault}'}")
    print(f"{len(found)} runs, {len(found) - len(left)} of them uploaded before")
    if failed:
        sys.exit(1)
