"""A trained network in one file that needs no aunet: ONNX, or torch's exported program.

Both take aligned crops (B, H, W, 3) uint8, RGB, for any B from 1 on, and give probabilities (B, num_aus),
with attention maps as a second output where the network attends. Normalisation is inside. What else a user
has to know (names of the AUs, alignment, data, thresholds) is in the file's metadata, see
``aunet.about.describe``; the model card beside it says it in words.

A file is there only if it was compared with the network: one in floats has to give the same probabilities,
one in eight-bit integers nearly the same validation F1.
"""

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from aunet.about import describe
from aunet.card import model_card
from aunet.data.datamodule import FrameDataModule
from aunet.export.check import LARGEST_DROP, PARITY, ExportError, Frames, check_f1, check_parity
from aunet.export.detector import Detector, trace
from aunet.files import replacing
from aunet.trained import load, load_data

__all__ = ["LARGEST_DROP", "PARITY", "ExportError", "export"]

CALIBRATION_FRAMES = 512
"""Training frames, evenly spaced, of which int8 takes the ranges of the activations."""

Form = Literal["onnx", "torch"]

_SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}


def export(
    run_dir: str | Path,
    out: str | Path | None = None,
    form: Form = "onnx",
    int8: bool = False,
    data: str | Path | None = None,
    largest_drop: float = LARGEST_DROP,
) -> Path:
    """Writes a finished run's network into a file, and its model card beside it (``FILE.md``).

    Args:
        run_dir: The run's folder.
        out: The file; None: ``model.onnx``, ``model.int8.onnx`` or ``model.pt2`` in the run's folder.
        form: "onnx", or "torch" for ``torch.export``.
        int8: Compute the backbone in eight-bit integers; only for ONNX, and only with the data at hand.
        data: Where the run's data lie now. Without them a file in floats is compared on random frames only,
            and int8 looks for them where the run has found them.
        largest_drop: Of the validation macro F1, that int8 may cost.

    Returns:
        The file.

    Raises:
        ExportError: A package is missing, or the file does not give what the network gives; no file is left.
        RunError, DataError: The run has not finished, or the data are not there or not those of the run.
        OSError: The file cannot be written.
    """
    if int8 and form != "onnx":
        raise ExportError("int8 is for the format onnx")
    folder, suffix = Path(run_dir), (".int8" if int8 else "") + _SUFFIX[form]
    target = Path(out) if out is not None else folder / f"model{suffix}"
    if target.suffix != _SUFFIX[form]:
        raise ExportError(f"{target}: the file's name has to end with {_SUFFIX[form]}")
    if target.is_dir():
        raise ExportError(f"{target} is a folder: say which file in it")
    if form == "onnx":
        _require("onnx", "onnxruntime", "onnxscript")
    facts = describe(folder) | {"form": form, "file": target.name, "int8": int8}
    network = load(folder).network
    seen = load_data(folder, data) if int8 or data is not None else None
    target.parent.mkdir(parents=True, exist_ok=True)
    detector = Detector(network, facts["crop_size"])
    program = trace(detector, facts["crop_size"])
    with replacing(target) as draft, tempfile.TemporaryDirectory() as work:
        if form == "torch":
            from aunet.export import torch_file

            torch_file.write(program, draft, facts)
            facts |= check_parity(torch_file.opened(draft), network, facts["crop_size"], seen)
            torch_file.write(program, draft, facts)
        else:
            from aunet.export import onnx_file

            floats = Path(work) / "floats.onnx"
            model = onnx_file.convert(program, detector.attends)
            onnx_file.write(model, floats, facts)
            facts |= check_parity(onnx_file.opened(floats), network, facts["crop_size"], seen)
            if seen is not None and int8:
                from aunet.export.int8 import quantise

                model = quantise(floats, Path(work) / "raw.onnx", _calibration(seen))
                onnx_file.write(model, draft, facts)
                files = onnx_file.opened(floats), onnx_file.opened(draft)
                # What was compared above is another file: this one gives other probabilities.
                facts = {key: value for key, value in facts.items() if not key.startswith("parity")}
                facts |= check_f1(*files, seen, largest_drop)
            onnx_file.write(model, draft, facts)
        card = model_card([folder], facts)
        with replacing(target.with_name(f"{target.name}.md")) as draft_of_card:
            draft_of_card.write_text(card, "utf-8")
    return target


def _require(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX files need {', '.join(missing)}: pip install 'aunet[export]' (--format torch does not)"
        )


def _calibration(data: FrameDataModule) -> Iterator[Frames]:
    """Batches of training frames."""
    rows = np.unique(np.linspace(0, len(data.tables["train"]) - 1, CALIBRATION_FRAMES).astype(np.int64))
    for start in range(0, len(rows), 64):
        yield data.frames("train", rows[start : start + 64])
