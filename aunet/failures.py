"""What a user is told of an error: one sentence; and where it stays for those who look later."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.errors import CompactHydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from aunet.data.faults import DataError
from aunet.runs import RunError, failure_file, record_failure
from aunet.weights import WeightsError

USER_ERRORS = (
    DataError, WeightsError, RunError, FloatingPointError, OSError, OmegaConfBaseException,
    CompactHydraException,
)  # fmt: skip
"""Errors whose message is all that a user needs."""


def cause_of(error: Exception) -> BaseException:
    """The error itself, or what a constructor had to say, which Hydra wraps."""
    return error.__cause__ or error if isinstance(error, InstantiationException) else error


def reason(error: Exception) -> str:
    """What a user has to know of an error, in one line; of an unexpected one its class, too."""
    cause = cause_of(error)
    said = " ".join(str(cause).split())
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{said}: make room and give the same command again; the run goes on from its last checkpoint"
    return said if isinstance(cause, USER_ERRORS) else f"{type(cause).__name__}: {said}"


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Leaves beside a run's folder why an attempt failed, until another one succeeds."""
    file = failure_file(folder)
    with suppress(OSError):
        file.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        record_failure(folder, reason(error))
        raise
    with suppress(OSError):  # of another process that worked on this run meanwhile
        file.unlink(missing_ok=True)
