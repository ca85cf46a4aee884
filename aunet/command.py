"""The command line of one run or of a sweep, as Hydra parses it."""

import logging
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from aunet import sweeps
from aunet.config import CONF
from aunet.failures import USER_ERRORS, cause_of, reason
from aunet.launchers import require_launcher
from aunet.train import train

log = logging.getLogger(__name__)


def _task(cfg: DictConfig) -> float | None:
    """What Hydra runs: one row. What the user has to mend becomes one sentence instead of a trace."""
    try:
        return train(cfg).get("val/f1")
    except Exception as error:  # in a sweep whatever it is: the other rows go on
        in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
        if not in_sweep and not isinstance(cause_of(error), USER_ERRORS):
            raise
        message = f"aunet: {cfg.name} seed {cfg.seed}: {reason(error)}"
        if in_sweep:  # at whose end Hydra tells the first failure only; the trace is in the run's log
            log.error(message)
        # Hydra prints this class without a trace, and in a sweep goes on with the other rows.
        raise CompactHydraException(message) from None


_hydra_main = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_task)


def main() -> None:
    """One run, or with ``--multirun`` a sweep: reads ``sys.argv``.

    Raises:
        SystemExit: Something has failed. Of a sweep, every run that has not finished is listed before.
    """
    sweeps.Plan.asked.clear()
    require_launcher(sys.argv[1:])
    try:
        _hydra_main()
    finally:
        left = sweeps.unfinished()
        if left:
            total = sum(map(len, sweeps.Plan.asked.values()))
            lines = [f"{len(left)} of {total} runs did not succeed:", *sweeps.describe(left)]
            print("\n  ".join(lines) + "\nGive the same command again to go on.", flush=True)  # noqa: T201 - a command's end
    if left:
        sys.exit(1)
