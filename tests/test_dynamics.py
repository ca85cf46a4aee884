"""Measurements against computations by hand, failures that are told, healthy runs of which nothing is said.

The networks see noise in which each AU shows as a patch of its own colour: they learn it within a few steps.
"""

import csv
import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from interrupting import interrupted
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from aunet.attention import GlobalLocalAttention
from aunet.backbones import ConvNet
from aunet.dynamics import Dynamics
from aunet.losses import BinaryCrossEntropy
from aunet.module import ActionUnitModule
from aunet.network import AUNet, linear_classifier, mlp_classifier
from aunet.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

AUS = (1, 2, 4)
STEPS = 10
PARTS = ("backbone", "attention", "classifier")
ADAM, SLOW = partial(torch.optim.Adam, lr=0.003), partial(torch.optim.SGD, lr=1e-4)


class Patches(pl.LightningDataModule):
    """``STEPS`` batches of 16 frames of 16 pixels, AU i in the i-th colour; a few labels are unknown."""

    def __init__(self, steps=STEPS):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        size = 16 * steps
        truth = torch.rand(size, 3, generator=generator) < 0.4
        frames = torch.randint(0, 60, (size, 3, 16, 16), generator=generator)
        frames[:, :, 4:12, 4:12] += 180 * truth[:, :, None, None]
        unknown = torch.rand(size, 3, generator=generator) < 0.1
        self.labels = truth.to(torch.int8).masked_fill(unknown, -1)
        self.rows = [
            {"frames": frame, "labels": row}
            for frame, row in zip(frames.to(torch.uint8), self.labels, strict=True)
        ]

    def training_counts(self):
        return (self.labels == 1).sum(0).numpy(), (self.labels >= 0).sum(0).numpy()

    def train_dataloader(self):
        return DataLoader(self.rows, 16)

    val_dataloader = train_dataloader


class Kept(Logger):
    """Keeps what it is given."""

    name = version = None

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_hyperparams(self, *_, **__):
        pass

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, metrics))

    def series(self, key):
        return {step: metrics[key] for step, metrics in self.logged if key in metrics}


def built(loss=None, optimizer=ADAM, filters=(6, 8), momentum=0.3, hidden=None):
    torch.manual_seed(0)
    network = AUNet(
        ConvNet(filters, bn_momentum=momentum),
        partial(GlobalLocalAttention, hidden_features=6, bn_momentum=momentum),
        linear_classifier if hidden is None else partial(mlp_classifier, hidden=hidden, dropout=0.1),
        len(AUS),
        image_size=16,
    )
    return ActionUnitModule(network, loss or BinaryCrossEntropy(len(AUS)), optimizer, AUS)


def fitted(module, *callbacks, epochs=1, steps=STEPS, **options):
    """Trains; returns what was logged."""
    logger = Kept()
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    options = {"max_epochs": epochs, "accelerator": "cpu", "num_sanity_val_steps": 0} | quiet | options
    trainer = pl.Trainer(callbacks=list(callbacks), logger=logger, **options)
    pl.seed_everything(0, verbose=False)
    trainer.fit(module, datamodule=Patches(steps))
    return logger


def norm(tensors):
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


class Witness(pl.Callback):
    """Computes at every step what Dynamics measures at some, in its own way."""

    def __init__(self):
        self.gradients, self.updates, self.answers = {}, {}, []
        self.weights = None

    @staticmethod
    def parts(module):
        return {"": list(module.network.parameters())} | {
            f"/{name}": list(getattr(module.network, name).parameters()) for name in PARTS
        }

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        parts = self.parts(pl_module)
        self.gradients[trainer.global_step] = {name: norm(p.grad for p in ps) for name, ps in parts.items()}
        self.weights = {name: [p.detach().clone() for p in ps] for name, ps in parts.items()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.answers.append((outputs["logits"], batch["labels"]))
        if self.weights is None:
            return
        self.updates[trainer.global_step - 1] = {
            name: norm(p.detach() - old for p, old in zip(ps, self.weights[name], strict=True))
            / norm(self.weights[name])
            for name, ps in self.parts(pl_module).items()
        }
        self.weights = None


# Values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4, 50])
def test_values_are_those_computed_by_hand(every):
    witness = Witness()
    logger = fitted(built(), Dynamics("run", every), witness, epochs=2)
    steps = [step for step in range(2 * STEPS) if (STEPS - 1 - step % STEPS) % every == 0 or not step]
    for name in witness.gradients[0]:
        norms, ratios = (logger.series(f"dynamics/{key}{name}") for key in ("grad_norm", "update_ratio"))
        assert sorted(norms) == sorted(ratios) == steps
        assert [norms[step] for step in steps] == pytest.approx(
            [witness.gradients[step][name] for step in steps], rel=1e-4
        )
        assert [ratios[step] for step in steps] == pytest.approx(
            [witness.updates[step][name] for step in steps], rel=1e-3
        )
    for column, au in enumerate(AUS):
        losses, begin = logger.series(f"train/loss/AU{au}"), 0
        assert sorted(losses) == steps
        for step in steps:
            logits, labels = (
                torch.cat([part[:, column] for part in of])
                for of in zip(*witness.answers[begin : step + 1], strict=True)
            )
            known = labels >= 0
            expected = F.binary_cross_entropy_with_logits(logits[known], labels[known].float())
            assert losses[step] == pytest.approx(float(expected), rel=1e-4)
            begin = step + 1
    assert (torch.cat([labels for _, labels in witness.answers]) < 0).any(0).all()


def test_gradient_descent_has_the_ratio_of_its_rate():
    witness = Witness()
    logger = fitted(built(optimizer=partial(torch.optim.SGD, lr=0.05)), Dynamics("run", 3), witness)
    for step, ratio in logger.series("dynamics/update_ratio").items():
        assert ratio == pytest.approx(witness.updates[step][""], rel=1e-3)
        weights = 0.05 * witness.gradients[step][""] / ratio
        assert 1 < weights < 20
    assert len(logger.series("dynamics/update_ratio")) == 4


def test_accumulated_batches_make_one_step():
    witness = Witness()
    logger = fitted(built(), Dynamics("run", 2), witness, accumulate_grad_batches=3)  # steps of 3, 3, 3, 1
    norms = logger.series("dynamics/grad_norm")
    assert sorted(norms) == [0, 1, 3]
    assert norms == pytest.approx({step: witness.gradients[step][""] for step in norms}, rel=1e-4)


def test_dead_channels_are_counted_and_history_takes_those_dead_throughout():
    module = built(optimizer=partial(torch.optim.SGD, lr=1e-3))
    with torch.no_grad():
        module.network.backbone.block1.norm.bias[:3] = -100.0
    seen = []

    class Read(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append({key: float(value) for key, value in trainer.callback_metrics.items()})

    logger = fitted(module, Dynamics("run", 3), Read())
    shares = logger.series("dynamics/dead_units")
    units = 6 + 8 + 6  # of two blocks and of the attention
    assert min(shares.values()) == pytest.approx(3 / units)
    assert seen[0]["dynamics/dead_units"] == pytest.approx(3 / units)
    for key in ("grad_norm", "update_ratio"):
        assert seen[0][f"dynamics/{key}"] == pytest.approx(
            np.mean(list(logger.series(f"dynamics/{key}").values()))
        )
    assert seen[0]["dynamics/bn_drift"] == pytest.approx(logger.series("dynamics/bn_drift")[STEPS - 1])
    # An epoch's values are no further points of the loggers' series.
    assert sorted(shares) == [0, 3, 6, 9]


def test_share_of_detected_frames():
    module = built()
    fitted(module, Dynamics("run"))
    logger = fitted(module, Dynamics("run"))
    data = Patches()
    frames = torch.stack([row["frames"] for row in data.rows])
    with torch.no_grad():
        detected = module.eval()(frames) >= 0
    for column, au in enumerate(AUS):
        (share,) = logger.series(f"val/detected/AU{au}").values()
        known = data.labels[:, column] >= 0
        assert share == pytest.approx(float(detected[known, column].double().mean()), abs=1e-3)


def test_loss_of_another_kind_has_no_loss_of_each_au():
    class Plain(nn.Module):
        def set_counts(self, positives, known):
            pass

        def forward(self, logits, labels):
            return (logits - labels).square().mean()

    logger = fitted(built(Plain()), Dynamics("run"))
    assert logger.series("dynamics/grad_norm")
    assert not logger.series("train/loss/AU1")


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_under_loss_scaling_are_unscaled(fused, caplog):
    """And steps that overflow, as the first ones do, are no failure and no measurement."""
    plain = fitted(built(optimizer=partial(torch.optim.SGD, lr=0.0)), Dynamics("run", 1))
    half = fitted(
        built(optimizer=partial(torch.optim.SGD, lr=0.0, fused=fused)),
        Dynamics("run", 1),
        plugins=[MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**18))],
    )
    norms, expected = (of.series("dynamics/grad_norm") for of in (half, plain))
    assert 0 < len(norms) < len(expected) == STEPS
    for step, value in norms.items():
        assert value == pytest.approx(expected[step], rel=0.05)
    assert "exploding" not in caplog.text


def test_number_of_steps_must_be_positive():
    with pytest.raises(ValueError, match="dynamics_every must be 1 or more"):
        Dynamics("run", 0)


# No trace --------------------------------------------------------------------------------------------------


def test_training_is_the_same_bit_for_bit():
    """With dropout, whose random numbers must be the same, too."""
    ends = []
    for callbacks in ((), (Dynamics("run", 3),)):
        module = built(hidden=(8,))
        fitted(module, *callbacks, epochs=2)
        state = module.state_dict()
        ends.append(
            (state, module.optimizers(use_pl_optimizer=False).state_dict(), torch.random.get_rng_state())
        )
    (weights, moments, drawn), (others, other_moments, other_drawn) = ends
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert str(moments) == str(other_moments)
    assert torch.equal(drawn, other_drawn)


# Whole runs ------------------------------------------------------------------------------------------------

SMALL = ("experiment=table1/ours", "backbone.filters=[4,4,4]")


def history(cfg):
    with (Path(cfg.out_dir) / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_with_and_without_are_the_same_run(compose):
    cfgs = [compose(*SMALL, f"sweep={every}", f"dynamics_every={every}") for every in ("2", "null")]
    metrics = [train(cfg) for cfg in cfgs]
    assert metrics[0]["recipe_digest"] == metrics[1]["recipe_digest"]
    of_val = [{k: v for k, v in of.items() if k.startswith("val/")} for of in metrics]
    assert of_val[0] == of_val[1]
    states = [torch.load(Path(cfg.out_dir) / "best.ckpt", weights_only=True)["state_dict"] for cfg in cfgs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    measured, plain = history(cfgs[0])[-1], history(cfgs[1])[-1]
    extra = {f"dynamics/{key}" for key in ("grad_norm", "update_ratio", "dead_units", "bn_drift")}
    assert measured.keys() - plain.keys() == extra | {f"val/detected/AU{au}" for au in cfgs[0].data.aus}
    assert all(math.isfinite(float(measured[key])) for key in extra)


def test_features_of_a_frozen_backbone_leave_it_out(compose):
    cfg = compose("experiment=table1/baseline", "classifier.hidden=[16,16]", "logger=csv", "dynamics_every=2")
    train(cfg)
    with (Path(cfg.out_dir) / "csv" / "metrics.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert {"dynamics/grad_norm/classifier", "dynamics/dead_units", "train/loss/AU1", "val/detected/AU1"} <= {
        *columns
    }
    assert not [name for name in columns if "backbone" in name or "attention" in name]


@pytest.mark.parametrize("batch", [1, 3])
def test_interrupted_run_measures_what_the_whole_one_does(compose, monkeypatch, batch):
    row = (*SMALL, "epochs=3", "lr_epochs=2", "checkpoint_minutes=0", "dynamics_every=2")
    whole, cut = compose(*row, "sweep=whole"), compose(*row, "sweep=cut")
    train(whole)
    interrupted(monkeypatch, cut, 1, batch)
    train(cut)
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in history(cfg)] for cfg in (whole, cut)
    ]
    assert rows[0] == rows[1]
    assert float(rows[0][1]["dynamics/grad_norm"]) > 0


def test_history_keeps_its_rows_when_measurements_end(compose, monkeypatch):
    from aunet.module import ActionUnitModule

    original = ActionUnitModule.training_step

    def step(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise KeyError
        return original(self, batch, batch_idx)

    cfg = compose(*SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(ActionUnitModule, "training_step", step)
        with pytest.raises(KeyError):
            train(cfg)
    train(compose(*SMALL, "dynamics_every=null"))
    first, second = history(cfg)
    assert first["dynamics/grad_norm"]
    assert second["dynamics/grad_norm"] == ""
    assert second["val/f1"]


def test_trial_measures_and_judges_nothing(compose, caplog):
    metrics = train(compose(*SMALL, "trainer.fast_dev_run=true", "bn_momentum=0.01"))
    assert metrics["dynamics/grad_norm"] > 0
    assert not [record for record in caplog.records if record.name == "aunet.dynamics"]


def test_what_was_said_is_not_said_again_by_a_resumed_run(caplog):
    said, trainer = {"drift": "BatchNorm drift"}, SimpleNamespace(is_global_zero=True, current_epoch=0)
    first = Dynamics("run")
    first._say(trainer, said)
    first._say(trainer, said)
    again = Dynamics("run")
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    again._say(trainer, said)
    assert caplog.text.count("run, epoch 1: BatchNorm drift") == 1


# Warnings --------------------------------------------------------------------------------------------------


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "aunet.dynamics"]


@pytest.mark.parametrize("hidden", [None, (16,)])
def test_nothing_is_said_of_a_healthy_run(hidden, caplog):
    logger = fitted(built(hidden=hidden), Dynamics("run", 3), epochs=5)
    assert max(logger.series("val/f1").values()) > 0.85  # or it would be no healthy one
    assert not warnings_of(caplog)


class Louder(BinaryCrossEntropy):
    def forward(self, logits, labels):
        return 1e6 * super().forward(logits, labels)


def filled(path, value, rows=slice(None)):
    """Plants a value in a parameter or buffer."""

    def plant(module):
        with torch.no_grad():
            module.get_parameter(path)[rows] = value

    return plant


@pytest.mark.parametrize(
    ("arguments", "plant", "words"),
    [
        ({"optimizer": SLOW}, filled("network.classifier.bias", -50.0), "all-absent predictor: every frame"),
        ({"optimizer": SLOW}, filled("network.classifier.bias", 50.0), "all-present predictor: every frame"),
        ({}, filled("network.classifier.bias", -50.0, 1), "AU2: called absent in every frame of the last 2"),
        ({}, filled("network.classifier.bias", 50.0, 2), "AU4: called present in every frame of the last 2"),
        ({"loss": Louder(3)}, None, "exploding gradient"),
        ({"optimizer": partial(torch.optim.Adam, lr=0.3)}, None, "changes the weights of the backbone by"),
        ({"optimizer": partial(torch.optim.SGD, lr=0.0)}, None, "the weights stand still"),
        ({"filters": (4,) * 5}, None, "vanishing gradient: the attention got none"),  # a map of one position
        ({}, filled("network.backbone.block2.norm.bias", -50.0), "dead units: 100% of those of backbone"),
        ({"momentum": 0.001}, None, "BatchNorm drift"),
    ],
)  # fmt: skip
def test_failure_is_told_once(arguments, plant, words, caplog):
    module = built(**arguments)
    if plant:
        plant(module)
    fitted(module, Dynamics("run", 3), epochs=4)
    said = [sentence for sentence in warnings_of(caplog) if words in sentence]
    assert len(said) == 1, warnings_of(caplog)
    assert said[0].startswith("run, epoch ")


def test_rare_au_is_given_two_validations(caplog):
    """Or as many as there are."""
    for epochs, told in ((2, 2), (1, 1), (4, 2)):
        caplog.clear()
        module = built(optimizer=SLOW)
        filled("network.classifier.bias", -50.0, 1)(module)
        fitted(module, Dynamics("run", 3), epochs=epochs)
        (sentence,) = [sentence for sentence in warnings_of(caplog) if "AU2: " in sentence]
        assert sentence.startswith(f"run, epoch {told}: ")


class Plant(pl.Callback):
    """Spoils something at a step that is not measured."""

    def __init__(self, spoil, step=5):
        self.spoil, self.step = spoil, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            self.spoil(pl_module)


def heavy(module):
    module.loss.pos_weight[1] = math.inf


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (filled("network.classifier.weight", math.nan, 2), "AU4: logits or loss"),
        (filled("network.classifier.bias", math.inf, 0), "AU1: logits or loss"),
        (heavy, "AU2: logits or loss"),  # its logits are finite
        (filled("network.backbone.block1.conv.weight", math.nan), "logits or loss of all AUs"),
    ],
)
def test_au_that_is_no_number_is_named_though_all_are_a_step_later(spoil, names, caplog):
    with pytest.raises(FloatingPointError):
        fitted(built(), Plant(spoil), Dynamics("run", 50), epochs=2)
    (sentence,) = warnings_of(caplog)  # and no effect of it
    assert names in sentence
    assert "at step 5" in sentence
