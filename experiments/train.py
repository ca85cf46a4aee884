"""Trains one row: ``python experiments/train.py experiment=table1/ours``; with ``--multirun``, several.

Every key of conf/ can be overridden on the command line; ``--help`` lists the groups.
"""

from aunet.command import main

if __name__ == "__main__":
    main()
