"""Learning-rate schedules that torch has no class for."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def set_after(optimizer: Optimizer, epochs: int, before: float, after: float) -> LambdaLR:
    """Sets the learning rate to another value once some epochs are over (paper section 4.2).

    Args:
        optimizer: Its learning rate is ``before``.
        epochs: Epochs with ``before``.
        before: First learning rate.
        after: Learning rate from then on.
    """
    return LambdaLR(optimizer, lambda epoch: 1.0 if epoch < epochs else after / before)
