"""Launchers of sweeps: whether the one that is asked for is installed, and where its workers run."""

import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

_PLUGINS = {"slurm": "hydra_plugins.hydra_submitit_launcher", "ray": "hydra_plugins.hydra_ray_launcher"}
"""Extra of aunet, which is also the name of an option of hydra/launcher -> the plugin behind it."""


def require_launcher(arguments: Sequence[str]) -> None:
    """Ends the program where ``hydra/launcher=slurm`` or ``ray`` is asked for without the plugin behind it.

    Hydra itself would name a configuration that it cannot load, and not what to install. For Ray, also keeps
    back Hydra's warning that the option and the plugin's own have one name, which is meant.

    Args:
        arguments: Of the command line, without the program's name.

    Raises:
        SystemExit: One sentence that names the extra.
    """
    for argument in arguments:
        key, _, option = argument.partition("=")
        plugin = _PLUGINS.get(option)
        if key != "hydra/launcher" or plugin is None:
            continue
        warnings.filterwarnings(
            "ignore", message=".*validated against ConfigStore schema", category=UserWarning
        )
        if not _installed(plugin):
            raise SystemExit(
                f"aunet: {argument} needs the extra '{option}', which is not installed: "
                f"pip install 'aunet[{option}]', or pip install -e '.[{option}]' in a checkout"
            )


def enter_folder() -> None:
    """Goes to the folder named by AUNET_FOLDER, for a worker that begins elsewhere; see launcher/ray.yaml.

    Raises:
        FileNotFoundError: This machine of the cluster does not have that folder, which must be shared.
    """
    os.chdir(os.environ["AUNET_FOLDER"])


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package above it
        return False
