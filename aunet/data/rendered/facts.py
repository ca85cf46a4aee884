"""What rendered sets, and configurations of them, say of themselves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aunet.data.faults import DataError

MANIFEST = "rendered.json"
"""In the folder of each set: the arguments it was rendered with. Written last; packing takes it along."""


def frame_rate(root: str | Path) -> float | None:
    """Kept frames per second of a rendered set; None where ``root`` is no such set."""
    manifest = Path(root) / MANIFEST
    if not manifest.exists():
        return None
    from aunet.data.rendered.behaviour import FRAMES_PER_SECOND

    return FRAMES_PER_SECOND / int(json.loads(manifest.read_text())["arguments"]["stride"])


def alignment(prepare: Mapping[str, Any] | None) -> dict[str, Any]:
    """How the crops of a rendered set are aligned.

    Args:
        prepare: Arguments that it was rendered with: ``data.prepare`` of a run's configuration.

    Returns:
        ``landmarks`` and ``landmark_noise``, as ``render`` takes them.

    Raises:
        DataError: They are not those of a rendered set, or of one that does not say.
    """
    names = "landmarks", "landmark_noise"
    if missing := [name for name in names if name not in (prepare or {})]:
        raise DataError(
            f"data.prepare.{missing[0]} is not told: not of rendered faces, or of an earlier version of aunet"
        )
    return {name: (prepare or {})[name] for name in names}


def rendered_only(data: Mapping[str, Any]) -> bool:
    """Whether data are rendered faces only, as far as their configuration and folder tell.

    They are told by their name, by being made where they are missing, or by what rendering leaves in the
    folder, and packing in the store, under whatever name they are read. A mixed set is rendered if all of its
    parts are.

    Args:
        data: Group ``data`` of a resolved configuration.
    """
    root = Path(data["root"])
    parts = data["read"].get("parts")
    if parts:
        return all(_is_rendered(name, root / part["root"]) for name, part in parts.items())
    prepare = data.get("prepare") or {}
    return prepare.get("_target_") == "aunet.data.rendered.render" or _is_rendered(data["name"], root)


def _is_rendered(name: str, folder: Path) -> bool:
    return name.startswith("rendered") or (folder / MANIFEST).exists()
