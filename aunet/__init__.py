"""aunet: facial Action Unit detection with PyTorch Lightning and Hydra."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aunet.predict import load

__all__ = ["__version__", "load"]

__version__ = "0.1.0"

# Read once, when torch loads OpenMP: how long its threads keep a core busy after an operation, in case one
# follows. The default of 300,000 rounds takes the cores from the threads that decode the next batch; this few
# cost a training step nothing measurable.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> Any:
    """``aunet.load``, see ``aunet.predict``: imported when it is asked for, since it brings PyTorch."""
    if name == "load":
        from aunet.predict import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
