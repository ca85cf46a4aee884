"""aunet: facial Action Unit detection with PyTorch Lightning and Hydra."""

import os

__version__ = "0.1.0"

# Read once, when torch loads OpenMP: how long its threads keep a core busy after an operation, in case one
# follows. The default of 300,000 rounds takes the cores from the threads that decode the next batch; this few
# cost a training step nothing measurable.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
