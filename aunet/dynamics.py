"""What training does to the network, measured now and then, and a word in time when it goes wrong."""

import logging
import math
from statistics import fmean
from typing import Any, NamedTuple, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from aunet import diagnosis
from aunet.facs import au_column
from aunet.losses import MultiLabelLoss
from aunet.module import ActionUnitModule
from aunet.probe import StepNumbers, StepProbe, is_measured, silent_share

log = logging.getLogger(__name__)

VALIDATIONS = 2
"""In how many in a row an AU must get one answer for all frames before that is said; or in the run's last."""

NORM, RATIO = "dynamics/grad_norm", "dynamics/update_ratio"


class Outputs(NamedTuple):
    """Of a training step: its number in the run, and (B, num_aus), (B, num_aus) and scalar tensors."""

    step: int
    logits: Tensor
    labels: Tensor
    loss: Tensor


class Dynamics(Callback):
    """Measures gradients, updates, units and each AU's loss; warns of the usual failures, of each once a run.

    Every ``every``-th step is measured, counted back from the epoch's last one, and the first of the run: a
    lr that is too high shows there. The others neither wait for the device nor do more than keep their
    logits. No step becomes another one: weights and random numbers are bit for bit those of a run without
    measurements. To every logger go:

        dynamics/grad_norm      L2 norm of the gradient, unscaled and before clipping; also .../<part>, the
                                parts being backbone, attention and classifier as far as they learn
        dynamics/update_ratio   L2 norm of what the step changed, over that of the weights; also .../<part>
        dynamics/dead_units     share of the units behind ReLU that were 0 at all positions of all frames of
                                the batch; see ``aunet.probe.StepProbe`` for what is counted
        dynamics/bn_drift       the largest of the batch normalisations' distances, see ``aunet.probe.drift``
        train/loss/AU<n>        mean over the known labels of the steps since the last measured one; of losses
                                that are a ``MultiLabelLoss``
        val/detected/AU<n>      share of the known validation frames in which the AU is detected

    ``history.csv`` gets for each epoch the means of the first two, the share of units that were 0 in all
    measured batches, and the drift at the epoch's end. A step whose gradient overflowed under loss scaling
    changes nothing and gives neither norm nor ratio. Where gradients are accumulated over batches, units and
    statistics are those of the last one.

    Args:
        title: Begins each warning, for instance the row and its seed.
        every: Optimiser steps from one measured step to the next.

    Raises:
        ValueError: ``every`` is below 1.
    """

    def __init__(self, title: str, every: int = 50) -> None:
        if every < 1:
            raise ValueError(f"dynamics_every must be 1 or more, or null for none, not {every}")
        self.title = title
        self.every = every
        self.step = 0  # in the run, as Lightning counts for train/loss
        self.probe: StepProbe | None = None
        self.outputs: list[Outputs] = []  # since the last measured step
        self.measured: list[dict[str, float]] = []  # norms and ratios of this epoch
        self.active: dict[str, Tensor] = {}  # in any measured batch of this epoch
        self.drift: dict[str, float] = {}  # at its last measured step
        self.constant: dict[str, int] = {}  # AU and its answer -> validations in a row
        self.said: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """Of the epoch under way, and what was said; part of each checkpoint."""
        kept = ("measured", "active", "drift", "constant")
        return {name: getattr(self, name) for name in kept} | {"said": sorted(self.said)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A resumed run goes on with them."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        self.said = set(self.said)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins to watch a step that is to be measured."""
        self.step = trainer.global_step
        batches, accumulated = int(trainer.num_training_batches), trainer.accumulate_grad_batches
        if is_measured(trainer.current_epoch, batch_idx, batches, accumulated, self.every):
            self.probe = StepProbe(cast("ActionUnitModule", pl_module).network)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Between backward pass and update; Lightning has undone loss scaling, but for fused optimisers."""
        if self.probe is None:
            return
        scaler = _scaler(trainer)
        scaled = scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False)
        self.probe.before_update(scaler.get_scale() if scaled else 1.0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After the update: reads what was watched, logs it, and warns."""
        labels = outputs["labels"].clone()  # of memory that workers share there is little
        self.outputs.append(Outputs(self.step, outputs["logits"], labels, outputs["loss"]))
        if self.probe is None:
            return
        module = cast("ActionUnitModule", pl_module)
        numbers = self.probe.numbers(lambda counts: trainer.strategy.reduce(counts, reduce_op="sum"))
        self.probe = None
        broken = self._broken(module)
        values = self._losses(module)
        self.outputs = []
        if math.isfinite(numbers.gradient):
            self.measured.append(_norms(numbers))
            values |= self.measured[-1]
        if numbers.active:
            values["dynamics/dead_units"] = _silent(numbers.active)
            self.active = {
                name: units | self.active.get(name, units) for name, units in numbers.active.items()
            }
        if numbers.drift:
            values["dynamics/bn_drift"] = max(numbers.drift.values())
            self.drift = numbers.drift
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        for logger in trainer.loggers:
            logger.log_metrics({**finite, "epoch": trainer.current_epoch}, step=self.step)
            logger.save()
        self._say(trainer, broken)
        if not broken and (math.isfinite(numbers.gradient) or _scaler(trainer) is None):
            self._say(trainer, diagnosis.of_step(numbers.gradients, numbers.updates, self.step))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the module takes its counts back: logs how often each AU was detected, and warns."""
        module = cast("ActionUnitModule", pl_module)
        names = [au_column(au) for au in module.aus]
        counts = module.val_counts.compute().tolist()
        for name, tp, fp, fn, tn in zip(names, *counts, strict=True):
            if known := tp + fp + fn + tn:
                module.log(f"val/detected/{name}", (tp + fp) / known)
        if _is_trial(trainer) or trainer.sanity_checking:
            return
        answers = diagnosis.constant_answers(counts, names)
        before = self.constant
        self.constant = {
            f"{au} {answer}": before.get(f"{au} {answer}", 0) + 1 for au, answer in answers.items()
        }
        if trainer.current_epoch + 1 != trainer.max_epochs:
            answers = {au: a for au, a in answers.items() if self.constant[f"{au} {a}"] >= VALIDATIONS}
        if len(answers) < len(names):
            answers = {au: answer for au, answer in answers.items() if au not in self.said}
        if answers:
            lasted = min(self.constant[f"{au} {answer}"] for au, answer in answers.items())
            self._say(trainer, diagnosis.of_answers(answers, len(names), lasted))
            self.said |= answers.keys()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives ``history.csv`` the epoch's values, and warns of what all its measured steps show."""
        for key in (NORM, RATIO):
            of_steps = [values[key] for values in self.measured if key in values]
            if of_steps:
                pl_module.log(key, fmean(of_steps), logger=False)
        if self.active:
            pl_module.log("dynamics/dead_units", _silent(self.active), logger=False)
        if self.drift:
            pl_module.log("dynamics/bn_drift", max(self.drift.values()), logger=False)
        if not _is_trial(trainer):
            self._say(trainer, self._of_epoch(trainer, cast("ActionUnitModule", pl_module)))
        self.measured, self.active, self.drift = [], {}, {}

    def _of_epoch(self, trainer: pl.Trainer, module: ActionUnitModule) -> diagnosis.Said:
        largest: dict[str, float] = {}
        for values in self.measured:
            for key, value in values.items():
                largest[key] = max(value, largest.get(key, 0.0))
        layers = {name: module.network.get_submodule(name) for name in self.drift}
        starting_values = {
            name: (1 - (1.0 if layer.momentum is None else layer.momentum)) ** trainer.global_step
            for name, layer in layers.items()
            if isinstance(layer, _BatchNorm)
        }
        return diagnosis.of_epoch(
            {key.removeprefix(f"{NORM}/"): value for key, value in largest.items() if f"{NORM}/" in key},
            largest.get(RATIO),
            {name: silent_share(units) for name, units in self.active.items()},
            self.drift,
            starting_values,
        )

    def _losses(self, module: ActionUnitModule) -> dict[str, float]:
        """``train/loss/AU<n>`` since the last measured step, of AUs with known labels."""
        if not isinstance(module.loss, MultiLabelLoss):
            return {}
        logits = torch.cat([of.logits for of in self.outputs])
        labels = torch.cat([of.labels for of in self.outputs])
        elements, known = module.loss.elements(logits, labels)
        sums, counts = torch.stack([elements.sum(0), known.sum(0)]).tolist()
        return {
            f"train/loss/{au_column(au)}": total / count
            for au, total, count in zip(module.aus, sums, counts, strict=True)
            if count
        }

    def _broken(self, module: ActionUnitModule) -> diagnosis.Said:
        """Names the AUs whose logits or loss were the first that are not finite."""
        logits = torch.cat([of.logits for of in self.outputs])
        losses = torch.stack([of.loss for of in self.outputs])
        if bool(logits.isfinite().all() & losses.isfinite().all()):
            return {}
        step, logits, labels, _ = next(
            of for of in self.outputs if not bool(of.logits.isfinite().all() & of.loss.isfinite())
        )
        finite = logits.isfinite()
        if isinstance(module.loss, MultiLabelLoss):
            finite &= module.loss.elements(logits, labels)[0].isfinite()
        whole = finite.all(0).tolist()
        names = [au_column(au) for au, fine in zip(module.aus, whole, strict=True) if not fine]
        return diagnosis.of_broken(names, len(whole), step)

    def _say(self, trainer: pl.Trainer, said: diagnosis.Said) -> None:
        """Each key once a run; nothing after the training has broken down, of which the rest are effects."""
        for key, sentence in said.items():
            if key in self.said or diagnosis.NOT_FINITE in self.said:
                continue
            self.said.add(key)
            if trainer.is_global_zero:
                log.warning(f"{self.title}, epoch {trainer.current_epoch + 1}: {sentence}")


def _norms(numbers: StepNumbers) -> dict[str, float]:
    """The values of a step under the names that the loggers get."""
    ratio = {} if numbers.update is None else {RATIO: numbers.update}
    return {
        NORM: numbers.gradient,
        **{f"{NORM}/{part}": value for part, value in numbers.gradients.items()},
        **ratio,
        **{f"{RATIO}/{part}": value for part, value in numbers.updates.items()},
    }


def _silent(active: dict[str, Tensor]) -> float:
    return silent_share(torch.cat(list(active.values())))


def _scaler(trainer: pl.Trainer) -> Any:
    """The precision's loss scaler, or None."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _is_trial(trainer: pl.Trainer) -> bool:
    """Whether a batch or two only show that everything works; nothing can be judged by them."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # Lightning does not declare it
