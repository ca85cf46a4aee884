"""What a finished run says of itself to those who use its network elsewhere: facts of exports and cards."""

from pathlib import Path
from typing import Any

from aunet.data.rendered.behaviour import FRAMES_PER_SECOND
from aunet.data.rendered.facts import frame_rate, rendered_only
from aunet.facs import CROP_SIZE, NAMES, TEMPLATE, au_column
from aunet.metrics import THRESHOLD
from aunet.predictions import probabilities
from aunet.runs import RunError, read_json, read_metrics
from aunet.thresholds import best_threshold, rankings
from aunet.trained import read_config

_NEEDED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("row", "title", "data", "data_fingerprint", "recipe_digest", "config_digest"), (str,)),
    **dict.fromkeys(("seed", "epochs", "parameters"), (int,)),
    **dict.fromkeys(("training_seconds", "val/f1"), (int, float)),
    **dict.fromkeys(("aus", "training_rates"), (list,)),
    "from_scratch": (bool,),
}
"""What is read of ``metrics.json``, here and by ``aunet.card``, and of which kind it is."""


def describe(run_dir: str | Path) -> dict[str, Any]:
    """Facts that have to travel with a network: outputs by name, what its input has to be, where it is from.

    Args:
        run_dir: A finished run's folder.

    Returns:
        Values that JSON can hold. ``template`` has the five landmarks of ``facs.TEMPLATE`` in a crop of
        ``crop_size`` pixels; ``tuned_thresholds`` the threshold of the highest F1 on all validation frames.

    Raises:
        RunError: The folder is no finished run, or a file of it is damaged.
    """
    folder = Path(run_dir)
    metrics, config = finished(folder), read_config(folder)
    size = int(config["data"]["image_size"])
    probs, labels, _ = probabilities(folder, len(metrics["aus"]))
    aus = [au_column(au) for au in metrics["aus"]]
    tuned = [best_threshold(ranking) for ranking in rankings(probs, labels)]
    provenance = read_json(folder / "provenance.json") or {}
    return {
        "format": 1,
        "aunet": provenance.get("aunet"),
        "commit": provenance.get("commit"),
        "row": metrics["row"],
        "title": " ".join(metrics["title"].split()),
        "seed": metrics["seed"],
        "aus": aus,
        "au_names": [NAMES.get(au, "") for au in metrics["aus"]],
        "crop_size": size,
        "colour": "RGB",
        "template": [[round(x * size / CROP_SIZE, 2), round(y * size / CROP_SIZE, 2)] for x, y in TEMPLATE],
        "template_points": "left eye, right eye, nose tip, left and right mouth corner, as seen in the image",
        "threshold": THRESHOLD,
        "tuned_thresholds": dict(zip(aus, tuned, strict=True)),
        "data": metrics["data"],
        "data_fingerprint": metrics["data_fingerprint"],
        "rendered_only": seen_rendered_only(folder),
        "pretrained": not metrics["from_scratch"],
        "recipe_digest": metrics["recipe_digest"],
        "config_digest": metrics["config_digest"],
        "val_f1": metrics["val/f1"],
    }


def finished(folder: Path) -> dict[str, Any]:
    """Metrics of a finished run.

    Raises:
        RunError: There is none, or its file is damaged.
    """
    metrics = read_metrics(folder)
    if metrics is None:
        raise RunError(f"{folder} is no finished run: metrics.json is missing")
    missing = [key for key in _NEEDED if key not in metrics]
    wrong = [key for key, kinds in _NEEDED.items() if not isinstance(metrics.get(key), kinds)]
    if missing or wrong:
        what = f"lacks {', '.join(missing)}" if missing else f"holds no {', '.join(wrong)} of a run"
        raise RunError(f"{folder / 'metrics.json'}: {what}; train the run anew")
    return metrics


def seen_rendered_only(run_dir: str | Path) -> bool:
    """Whether a run has seen rendered faces only, as recorded in training.

    Of a run without that record, as far as its configuration and its data tell today.
    """
    recorded = (read_metrics(Path(run_dir)) or {}).get("rendered_only")
    return rendered_only(read_config(run_dir)["data"]) if recorded is None else bool(recorded)


def validation_rate(run_dir: str | Path) -> float:
    """Frames per second of a run's validation videos: as rendered, or 30, which Aff-Wild2's mostly have."""
    data = read_config(run_dir)["data"]
    stride = (data.get("prepare") or {}).get("stride")
    return FRAMES_PER_SECOND / stride if stride else frame_rate(data["root"]) or 30.0
