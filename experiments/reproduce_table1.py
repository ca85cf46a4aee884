"""Trains every row of the paper's Table 1 and prints our table beside the paper's.

``python experiments/reproduce_table1.py [OVERRIDE ...]``; for instance ``data=affwild2 data.root=DIR``,
``seed=0,1,2``, ``logger=wandb`` or ``hydra/launcher=slurm``. Rows are the files of conf/experiment/table1/.
Finished runs are skipped, interrupted ones go on: the same command can be given again at any time.
"""

from aunet.reproduce import run
from aunet.results import TABLE1

if __name__ == "__main__":
    run("table1", order=TABLE1)
