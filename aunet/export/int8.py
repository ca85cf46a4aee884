"""Eight-bit integers in the convolutions: static quantisation, calibrated on training frames.

Weights are signed with a scale for each output channel, activations unsigned with one scale for all: what
ONNX Runtime has fast kernels for on x86 (VNNI or AMX; without them sums may saturate) and on Arm.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from aunet.export.check import Frames
from aunet.export.onnx_file import INPUT

_OPERATORS = ("Conv", "Relu", "Clip", "MaxPool", "AveragePool", "Add", "Concat")
"""Operators of a backbone that are computed in integers, with the activations between them. Attention and
classifier stay floats: they are a hundredth of the work, and decide."""


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands frames over to the calibration."""

    def __init__(self, batches: Iterator[Frames]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, Frames] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


def quantise(floats: Path, out: Path, batches: Iterator[Frames]) -> onnx.ModelProto:
    """A model with the backbone in integers, in QDQ format.

    Args:
        floats: The model in floats.
        out: Where ONNX Runtime writes what it makes, which is not yet all.
        batches: (B, H, W, 3) training frames, over which the least and the greatest value of every activation
            are taken.
    """
    model = onnx.load(str(floats))
    pixels = next((n.output[0] for n in model.graph.node if n.op_type == "Cast"), None)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # onnxruntime advises there what the export has done already
    try:
        quantize_static(
            str(floats),
            str(out),
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=_backbone(model),
            op_types_to_quantize=list(_OPERATORS),
            # Bytes are the pixels as they come, whichever values the frames happen to hold.
            extra_options={
                "TensorQuantOverrides": {pixels: [{"rmin": np.float32(0), "rmax": np.float32(255)}]}
            },
        )
    finally:
        root.setLevel(level)
    return _with_bytes_for_pixels(onnx.load(str(out)))


def _backbone(model: onnx.ModelProto) -> list[str]:
    """Convolutions, and what takes the output of one of these nodes without anything between."""
    made: set[str] = set()
    chosen = []
    for node in model.graph.node:
        if node.op_type == "Conv" or (node.op_type in _OPERATORS and made.intersection(node.input)):
            chosen.append(node.name)
            made.update(node.output)
    return chosen


def _with_bytes_for_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the pixels' way from bytes to floats and back to the same bytes, where it has one."""
    nodes = list(model.graph.node)
    made = {output: node for node in nodes for output in node.output}
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in (node for node in nodes if node.op_type == "QuantizeLinear"):
        before = made.get(node.input[0])
        same = values[node.input[1]].tolist() == 1 and values[node.input[2]].tolist() == 0
        if before is not None and before.op_type == "Cast" and same:
            for other in nodes:
                for index, name in enumerate(other.input):
                    if name == node.output[0]:
                        other.input[index] = before.input[0]
            model.graph.node.remove(node)
            model.graph.node.remove(before)
    return model
