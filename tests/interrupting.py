"""Runs that fail somewhere within."""

import pytest

from aunet.module import ActionUnitModule
from aunet.train import train


class Killed(BaseException):
    """Nobody catches it."""


def interrupted(monkeypatch, cfg, epoch, batch):
    """Trains until a batch of an epoch and fails there, once; the (epoch, batch) of every step taken."""
    original = ActionUnitModule.training_step
    seen: list[tuple[int, int]] = []

    def step(self, frames, batch_idx):
        at = (self.current_epoch, batch_idx)
        seen.append(at)
        if at == (epoch, batch) and seen.count(at) == 1:
            raise Killed
        return original(self, frames, batch_idx)

    monkeypatch.setattr(ActionUnitModule, "training_step", step)
    with pytest.raises(Killed):
        train(cfg)
    return seen
