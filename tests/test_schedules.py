"""Learning-rate schedules: values per epoch, from the start and after resuming."""

import pytest
import torch
from hydra.utils import instantiate

from aunet.schedules import set_after


def optimizer(lr=1e-3):
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(adam, scheduler, epochs):
    """Learning rate of each epoch."""
    seen = []
    for _ in range(epochs):
        seen.append(adam.param_groups[0]["lr"])
        adam.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("epochs", [0, 1, 5, 9])
def test_rate_is_set_once_the_epochs_are_over(epochs):
    adam = optimizer()
    seen = rates(adam, set_after(adam, epochs, before=1e-3, after=1e-4), 8)
    assert seen == pytest.approx(([1e-3] * epochs + [1e-4] * 8)[:8])


def test_rate_may_rise():
    adam = optimizer(0.1)
    assert rates(adam, set_after(adam, 2, before=0.1, after=0.5), 4) == pytest.approx([0.1, 0.1, 0.5, 0.5])


def test_schedule_goes_on_after_resuming(tmp_path):
    adam = optimizer()
    scheduler = set_after(adam, 5, 1e-3, 1e-4)
    whole = rates(adam, scheduler, 3)
    torch.save({"adam": adam.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again = optimizer()
    resumed = set_after(again, 5, 1e-3, 1e-4)
    again.load_state_dict(state["adam"])
    resumed.load_state_dict(state["scheduler"])
    assert whole + rates(again, resumed, 4) == pytest.approx([1e-3] * 5 + [1e-4] * 2)


@pytest.mark.parametrize(("name", "last"), [("step", 1e-4), ("constant", 1e-3)])
def test_configurations_mean_what_they_say(compose, name, last):
    cfg = compose(f"scheduler={name}", "lr_epochs=2")
    adam = optimizer(cfg.lr)
    assert rates(adam, instantiate(cfg.scheduler)(adam), 4) == pytest.approx([1e-3, 1e-3, last, last])
