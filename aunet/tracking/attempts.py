"""What a run is called and what it is, for loggers: each attempt of it is told by its number."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aunet.runs import config_digest, read_json, recipe_digest


def attempts(folder: Path) -> int:
    """Number of attempts of a run so far, the one under way included.

    Args:
        folder: The run folder.

    Raises:
        RunError: Its ``provenance.json`` is damaged.
    """
    return len(_record(folder).get("attempts", []))


def attempt_name(name: str, attempt: int) -> str:
    """Name of a run's attempt: the run's own, with the number from the second on."""
    return name if attempt < 2 else f"{name}-attempt{attempt}"


def describe(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration, code, packages, data, recipe, attempt and hardware of a run, under dotted keys.

    Args:
        folder: The run folder, in which the attempt has begun.
        config: The resolved configuration.
    """
    record = _record(folder)
    last = record.get("attempts", [{}])[-1]
    return flat({
        **config,
        **{key: record.get(key) for key in ("aunet", "commit", "data_fingerprint", "packages")},
        "config_digest": config_digest(config),
        "recipe_digest": recipe_digest(config),
        "attempt": attempts(folder),
        "hardware": last,
    })  # fmt: skip


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same with the keys of dictionaries within it joined by dots."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _record(folder: Path) -> dict[str, Any]:
    return read_json(folder / "provenance.json") or {}
