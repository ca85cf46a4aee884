"""The usual failures of a training, told in words: what is seen, what it usually means, what to do.

Pure functions of numbers. Each gives key -> sentence; the key is what is said once per run.
"""

import math
from collections.abc import Mapping, Sequence

EXPLODING = 1e3
"""Norm of the whole gradient; that of `ours` on rendered faces is 1 to 4 from the first step on."""

VANISHING = 1e-7
"""Norm of a part's gradient below which Adam, whose epsilon it is in the paper's recipe, stops to move it."""

FAST, STILL = 0.2, 1e-7
"""Share of the weights that a step changes. In `ours` it is 0.03 in the first step and later below 0.01. At
ten times its lr it is 0.25 in the first step, and soon as small as ever: Adam makes weights grow until its
steps are small beside them. 6e-8 is the resolution of float32."""

DEAD = 0.8
"""Share of a layer's units that were 0 in all measured batches of an epoch. Without training it is 0 where
batch normalisation comes before ReLU, and 0.34 in the first hidden layer behind VGG16, in one batch of 16."""

DRIFT = 1.0
"""Standard deviations, or doublings, see ``aunet.probe.drift``. After 305 steps of `ours` on rendered faces
it is 0.1 with bn_momentum 0.1, and validation F1 0.44; with 0.01 it is 2, and F1 0.12, of equal weights."""

NOT_FINITE = "not finite"
"""Key of what ``of_broken`` says."""

Said = dict[str, str]
"""Key -> sentence."""


def of_step(gradients: Mapping[str, float], updates: Mapping[str, float], step: int) -> Said:
    """What a single step shows.

    Args:
        gradients: Part of the network -> norm of its gradient, unscaled.
        updates: Part -> norm of its update as a share of that of its weights.
        step: Number of the step in the run.
    """
    said = {}
    norm = math.hypot(*gradients.values())
    if not norm <= EXPLODING:  # also where it is no number
        of_parts = ", ".join(f"{part} {value:.2g}" for part, value in gradients.items())
        said["exploding"] = (
            f"exploding gradient: its norm is {norm:.2g} at step {step} ({of_parts}); a step of that size "
            f"usually ruins the weights. Lower lr, or clip it (+trainer.gradient_clip_val=1)"
        )
    fast = ", ".join(f"{part} by {share:.0%}" for part, share in updates.items() if share > FAST)
    if fast:
        said["fast"] = (
            f"step {step} changes the weights of the {fast} of their size, where 3% are usual at first, "
            f"and 1% later: lr is too high. Try a tenth of it"
        )
    return said


def of_epoch(
    gradients: Mapping[str, float],
    update: float | None,
    dead: Mapping[str, float],
    drift: Mapping[str, float],
    starting_values: Mapping[str, float],
) -> Said:
    """What the measured steps of an epoch show together.

    Args:
        gradients: Part of the network -> largest norm of its gradient.
        update: Largest norm of an update as a share of that of the weights; None: not measured.
        dead: Layer -> share of its units that were 0 in all measured batches.
        drift: Batch normalisation -> distance of its running statistics from the last batch's.
        starting_values: Batch normalisation -> the share that they still have in its running statistics.
    """
    said = {}
    for part, norm in gradients.items():
        if norm < VANISHING:
            said[f"vanishing {part}"] = (
                f"vanishing gradient: the {part} got none above {norm:.1g} in this epoch and learns nothing. "
                f"Usually something between it and the loss is constant (attention over a single position, "
                f"units that are all 0), or no label of the batches is known"
            )
    if update is not None and update < STILL and not said:
        said["still"] = (
            f"the weights stand still: no step changed them by more than {update:.1g} of their size. lr is "
            f"too low, or its schedule has lowered it too far"
        )
    for layer, share in dead.items():
        if share > DEAD:
            said[f"dead {layer}"] = (
                f"dead units: {share:.0%} of those of {layer} were 0 in every measured batch of this epoch "
                f"and get no gradient. Usually a step was too large: lower lr and start anew"
            )
    far = {layer: value for layer, value in drift.items() if value > DRIFT}
    if far:
        worst = max(far, key=lambda layer: far[layer])
        cause = (
            f"Their starting values still count {starting_values[worst]:.0%}, too few steps for this "
            f"bn_momentum: raise it (bn_momentum=0.1), or train for more epochs"
            if starting_values[worst] > 0.02
            else "The weights move faster than they follow: lower lr, raise bn_momentum, or enlarge batches"
        )
        said["drift"] = (
            f"BatchNorm drift: the running statistics of {len(far)} of {len(drift)} layers are far from the "
            f"last batch's, most of all {worst}'s (by {far[worst]:.1f} standard deviations or doublings). "
            f"Validation uses them, so its F1 says little as yet. {cause}"
        )
    return said


def of_broken(names: Sequence[str], count: int, step: int) -> Said:
    """Something is no number, or infinite.

    Args:
        names: AUs whose logits or loss are not finite where that was first seen.
        count: Number of all AUs.
        step: Where that was, in the run.
    """
    if names and len(names) < count:
        said = (
            f"{', '.join(names)}: logits or loss are not finite at step {step}, those of the other AUs are. "
            f"Usually the weight in the loss (hardly any positive training frame) or half precision is to "
            f"blame: compare loss=bce, or trainer=bf16 instead of fp16"
        )
    else:
        what = "logits or loss of all AUs are" if names else "the loss is"
        said = f"{what} not finite at step {step}: the training has diverged. Lower lr"
    return {NOT_FINITE: said}


def constant_answers(counts: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, str]:
    """AUs that got one answer in all validation frames though both occur, or the wrong one occurs alone.

    Args:
        counts: (4, num_aus) tp, fp, fn, tn.
        names: Of the AUs.

    Returns:
        Name -> "present" or "absent", the answer.
    """
    answers = {}
    for name, tp, fp, fn, tn in zip(names, *counts, strict=True):
        if fn and not tp + fp:
            answers[name] = "absent"
        elif fp and not fn + tn:
            answers[name] = "present"
    return answers


def of_answers(answers: Mapping[str, str], count: int, validations: int) -> Said:
    """What constant answers mean.

    Args:
        answers: As from ``constant_answers``, those to be told of.
        count: Number of all AUs.
        validations: How many in a row they have lasted.
    """
    when = f"of the last {validations} validations" if validations > 1 else "of the last validation"
    if len(answers) == count:
        kinds = set(answers.values())
        kind = f"all-{kinds.pop()}" if len(kinds) == 1 else "constant"
        return {
            "constant": f"{kind} predictor: every frame {when} got the same answer for every AU. The "
            f"network has learnt nothing that validation shows. Usually by BatchNorm drift, by a lr that is "
            f"too high, or after too few steps"
        }
    advice = {
        "absent": "Usual for rare AUs in the first epochs. If it stays, they have too few positive training "
        "frames or too small a weight: compare loss=reweighted_bce and sampling=balanced_labels",
        "present": "Usually their weight in the loss is too large: compare loss=sqrt_bce and loss=bce",
    }
    said = {}
    for answer, what in advice.items():
        names = ", ".join(name for name in answers if answers[name] == answer)
        if names:
            said[f"{answer} {names}"] = (
                f"{names}: called {answer} in every frame {when}, which is wrong. {what}"
            )
    return said
