"""Files of ``torch.export``: an exported program with its metadata beside it, in one archive."""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aunet.export.check import Frames, Network

METADATA = "metadata.json"


def write(program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a program, and its metadata as ``extra_files["metadata.json"]``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # said of channels_last weights
        # Not to the path itself: where the disk is full, torch ends the process.
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
    path.write_bytes(content.getbuffer())


def opened(path: Path) -> Network:
    """What a file gives."""
    network = torch.export.load(path).module()

    def outputs(frames: Frames) -> list[Any]:
        with torch.no_grad():
            return [output.numpy() for output in network(torch.from_numpy(frames))]

    return outputs
