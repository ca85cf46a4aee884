"""ONNX files: written from an exported program, described by their metadata, run by ONNX Runtime."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

from aunet.export.check import ExportError, Network

OPSET = 18
"""That of torch's exporter, from 2.6 on; each channel of a kernel may have its own scale from 13 on."""

INPUT, OUTPUTS, BATCH = "frames", ("probabilities", "attention"), "batch"


def convert(program: torch.export.ExportedProgram, attends: bool) -> onnx.ModelProto:
    """The program as an ONNX graph: input ``frames``, outputs ``probabilities`` and perhaps ``attention``.

    Args:
        program: Of a ``Detector``.
        attends: Whether it gives attention maps.

    Raises:
        ExportError: The network does what ONNX has no operator for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        try:
            converted: Any = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=OPSET,
                optimize=True,
                verbose=False,
                input_names=[INPUT],
                output_names=list(OUTPUTS[: 1 + attends]),
            )
        except torch.onnx.OnnxExporterError as error:
            first = str(error).strip().splitlines()[0]
            raise ExportError(f"torch.onnx cannot convert the network: {first}") from error
    return _plain(converted.model_proto)


def write(model: onnx.ModelProto, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a model that has passed ONNX' own check, with its metadata, each value as JSON."""
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def opened(path: str | Path) -> Network:
    """What a file gives on this machine's processor."""
    runs = session(path)
    return lambda frames: runs.run(None, {INPUT: frames})


def session(path: str | Path, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """A file ready to run on this machine's processor, by as many threads as torch uses.

    Args:
        path: The file.
        profile: Beginning of the name of a file for ONNX Runtime's profile; None: none is made.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's notes, which name places on this machine; its batch gets a name."""
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for described in (model, graph, *graph.node, *graph.initializer, *graph.value_info):
        del described.metadata_props[:]
        described.doc_string = ""
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == symbol:
                size.dim_param = BATCH
    return model
