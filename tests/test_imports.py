"""Imports run one way, and third-party packages stay where design puts them; read from the source itself."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aunet"

# Earliest first. A module imports from strictly earlier layers only; a name stands for a whole package too,
# whose modules may import each other.
LAYERS: tuple[set[str], ...] = (
    {
        "facs",
        "files",
        "launchers",
        "processes",
        "progress",
        "locks",
        "parallel",
        "overlays",
        "probe",
        "diagnosis",
    },
    {"metrics", "resampling", "losses", "schedules", "attention", "weights", "augmentation", "data.faults"},
    {"backbones", "statistics", "data.annotations", "data.pictures", "data.duplicates", "data.device"},
    {"thresholds", "data.sources", "data.staleness"},
    {"measures", "postprocess", "data.frames"},
    {"network", "data.layout", "data.join", "data.folds", "data.store", "data.sampling", "data.rendered"},
    {"data.subjects", "data.manifest_files"},
    {"data.manifest_rows"},
    {"data.affwild2", "data.disfa", "data.bp4d", "data.manifest", "data.mixed"},
    {"data.batches", "data.journal", "data.detect", "data.testset"},
    {"data.loader", "data.pack", "data.features"},
    {"module", "data.datamodule", "data.check", "rows"},
    {"runs", "host", "config"},
    {"callbacks", "checkpoints", "evaluation", "failures", "cells", "devices", "dynamics"},
    {"companions", "predictions"},
    {"tracking"},
    {"fitting", "trained"},
    {"train", "sweeps"},
    {"about"},
    {"command", "results", "status", "repeat", "predict", "submit"},
    {"columns"},
    {"tables", "report"},
    {"card"},
    {"localisation", "export"},
    {"drawing"},
    {"demo"},
    {"reproduce"},
    {"cli"},
)
TORCH_ONLY = {"losses", "schedules", "attention", "weights", "backbones", "network", "parallel", "probe"}
CONFIG_READERS = {"train", "trained", "fitting", "config", "failures", "sweeps", "command"}
CONFIG_READERS |= {"repeat", "reproduce"}


def module_name(file):
    """Dotted name within the package; "" for aunet/__init__.py."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(SOURCES.keys() - {"", "data"})
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))


def unit(module):
    """The entry of LAYERS that a module belongs to: itself, or a package above it."""
    parts = module.split(".")
    candidates = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in candidates if any(name in layer for layer in LAYERS)), None)


@cache
def imports(file):
    """Absolute names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}, line {node.lineno}: relative import; write aunet. in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix("aunet.") in SOURCES
                names.add(inner if inner.startswith("aunet.") and is_module else node.module)
    return names


def third_party(file):
    """Top-level packages that a file imports, without aunet's and the standard library's."""
    return {name.split(".")[0] for name in imports(file)} - {"aunet"} - sys.stdlib_module_names


def test_the_source_is_found():
    assert {"facs", "network", "backbones.base", "data.affwild2"} <= set(MODULES)
    assert "aunet.facs" in imports(SOURCES["metrics"])


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    here = unit(module)
    assert here, (
        f"aunet/{module.replace('.', '/')}.py is in no layer: add it to LAYERS in tests/test_imports.py"
    )
    earlier = set().union(*LAYERS[: next(i for i, layer in enumerate(LAYERS) if here in layer)])
    for name in imports(SOURCES[module]):
        if not name.startswith("aunet."):  # "aunet" itself holds the version, and aunet.load
            continue
        there = unit(name.removeprefix("aunet."))
        assert there, f"{module} imports {name}, which is in no layer"
        assert there == here or there in earlier, f"{module} imports {name}, which is not in an earlier layer"


def test_the_packages_themselves_import_nothing():
    assert imports(SOURCES[""]) == {"os", "typing", "aunet.predict"}  # the last when aunet.load is asked for
    assert not imports(SOURCES["data"])


def test_facs_imports_nothing():
    assert not imports(SOURCES["facs"])


@pytest.mark.parametrize("module", [module for module in MODULES if unit(module) in TORCH_ONLY])
def test_the_network_needs_torch_only(module):
    assert third_party(SOURCES[module]) <= {"torch", "torchvision"}


@pytest.mark.parametrize("module", MODULES)
def test_few_modules_read_configurations(module):
    if unit(module) not in CONFIG_READERS:
        assert not third_party(SOURCES[module]) & {"hydra", "omegaconf"}


@pytest.mark.parametrize("file", [*SOURCES.values(), *SCRIPTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_one_package_names_wandb(file):
    """Identifiers, imports and strings; comments and docstrings may."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string that stands alone is a docstring
            node.body = [
                s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            ]
    code = ast.unparse(tree).lower()
    assert "wandb" not in code or PACKAGE / "tracking" in file.parents


@pytest.mark.parametrize("file", SOURCES.values(), ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_imports_the_experiments(file):
    assert not {name for name in imports(file) if name.split(".")[0] in ("experiments", "tests")}
