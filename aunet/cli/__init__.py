"""The ``aunet`` command: parses, calls, prints.

aunet train [OVERRIDE ...]            one run, or with --multirun a sweep (Hydra's syntax)
aunet data render OUT [--size NAME]   the rendered faces
aunet data check DATA [OVERRIDE ...]  everything that is wrong with a data set or a store
aunet data pack DATA [OVERRIDE ...]   a packed store of a data set
aunet table RUNS ...                  the table of one sweep or several
aunet report RUNS ... -o FILE         one page about them: tables, figures, frames
aunet status RUNS ...                 how far each run of a sweep is, live
aunet attention RUNS ...              where networks look, scored where the truth is known
aunet export RUN                      the network in one file: ONNX or torch.export, and its model card
aunet card RUN                        the model card of a run, or of a row with all its seeds
aunet sync RUNS ...                   upload runs that were logged offline
aunet submit RUN --data DIR -o OUT    a submission to the ABAW competitions; --check looks for faults in one
aunet predict RUN INPUT ... -o OUT    the AUs of faces in pictures, videos, or a data set
aunet demo RUN                        a page on this machine: drop a picture or a video, see its AUs
"""

import argparse
import sys
from collections.abc import Sequence

from aunet.cli import data, demo, export, networks, predict, submit, sweeps


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console command.

    Args:
        arguments: Without the program's name; those of the process if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:  # Hydra parses the rest
        from aunet.command import main as train

        sys.argv = ["aunet train", *given[1:]]
        train()
        return
    parser = argparse.ArgumentParser(prog="aunet", description="Facial Action Unit detection.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("train", help="train one row, or a sweep: aunet train experiment=table1/ours")
    for family in (data, sweeps, networks, predict, demo, submit, export):
        family.add(commands)
    options, rest = parser.parse_known_args(given)
    # argparse takes positional arguments in one piece only; overrides and inputs may stand between options.
    name = next((name for name in ("overrides", "inputs") if name in options), None)
    strange = [word for word in rest if word.startswith("-") or (name != "inputs" and "=" not in word)]
    if strange or (rest and name is None):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if name is not None:
        getattr(options, name).extend(rest)
    for what in ("run", "path", "out", "overlay", "timeline"):
        if getattr(options, what, None) == "":  # an unset variable: neither this folder nor none is meant
            parser.error(f"an empty name: say which {what}")
    try:
        options.call(options)
    except KeyboardInterrupt:
        print("aunet: interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, RuntimeError) as error:
        if "code" not in options:
            sys.exit(f"aunet: {error}")
        print(f"aunet: {error}", file=sys.stderr)
        sys.exit(options.code)
