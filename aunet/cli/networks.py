"""``aunet attention``: what is done with the networks of finished runs."""

import argparse
import sys
from pathlib import Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of ``aunet``."""
    attention = commands.add_parser(
        "attention", help="where networks look: maps, and on rendered faces their scores"
    )
    attention.add_argument("runs", nargs="+", help="folder of a run, of a row (its seeds) or of a sweep")
    attention.add_argument("--data", metavar="DIR", help="where the data lie now; default: as the runs say")
    attention.add_argument("--out", metavar="DIR", help="default: attention/ in the folder of the runs")
    attention.add_argument(
        "--frames", type=int, default=2000, help="validation frames, evenly spread; %(default)s"
    )
    attention.set_defaults(call=_attention)


def _attention(options: argparse.Namespace) -> None:
    from aunet.localisation.study import place_of, study
    from aunet.localisation.tables import print_scores, write_scores

    out = Path(options.out) if options.out else place_of(options.runs)
    found = study(options.runs, out, options.data, options.frames)
    print_scores(found)
    files = [*found.pictures, *write_scores(out, found)]
    print(f"written: {', '.join(map(str, files))}", file=sys.stderr)
