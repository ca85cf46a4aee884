"""Runs on wandb: online where a key is set and the server answers, offline otherwise, never a prompt.

Every attempt of a run is a wandb run of its own, since an offline one cannot be continued. They share the
group, which is the sweep, and the job type, which is the row; their state, and ``finished`` in their
configuration, tell the attempt that came to the end from those that did not.
"""

import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger

from aunet.facs import au_column
from aunet.runs import RunError, read_json
from aunet.tracking.attempts import attempt_name, attempts
from aunet.tracking.figures import Picture
from aunet.tracking.frames import WorstFrame

log = logging.getLogger(__name__)

SYNCED = ".synced"
"""Behind the name of a run's file: all of it is on the server. wandb's own mark."""


class RunLogger(WandbLogger):
    """Lightning's, which also remembers whether to send the best checkpoint."""

    best_checkpoint = False


def wandb_logger(
    project: str,
    group: str,
    job_type: str,
    name: str,
    save_dir: str,
    best_checkpoint: bool = False,
    init_timeout: float = 15,
    finish_timeout: float = 60,
    **options: Any,
) -> RunLogger:
    """Starts a wandb run; ``WANDB_MODE`` decides over the mode where it is set.

    Args:
        project: wandb project.
        group: Runs of one group are compared with each other: the sweep.
        job_type: Runs of one job type are averaged: the row.
        name: Of the run; from the second attempt on, its number is added.
        save_dir: The run folder; ``wandb/`` in it takes the local copy, which ``aunet sync`` uploads.
        best_checkpoint: Send ``best.ckpt`` as an artifact.
        init_timeout: Seconds after which a server that does not answer is given up, and the run is offline.
        finish_timeout: Seconds that the end of a run waits for what is still to be sent.
        **options: Further arguments of ``wandb.init``.

    Raises:
        RunError: wandb cannot even be used offline.
    """
    folder = Path(save_dir)
    attempt = max(1, attempts(folder))
    (folder / "wandb").mkdir(parents=True, exist_ok=True)  # wandb goes to a temporary folder without it

    def started(mode: Any) -> RunLogger:
        settings = wandb.Settings(
            init_timeout=init_timeout, finish_timeout=finish_timeout, finish_timeout_raises=True
        )
        run = wandb.init(
            project=project,
            group=group,
            job_type=job_type,
            name=attempt_name(name, attempt),
            id=_identity(name, attempt),  # the server that is given up holds on to the one it was told
            dir=save_dir,
            mode=mode,
            settings=settings,
            config={"finished": False},
            **options,
        )
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        # The first table makes wandb ask the server whether it knows the key: now, since one at the end would
        # be lost where the server is by then.
        run.log({"data/splits": _splits(folder)})
        logger = RunLogger(project=project, save_dir=save_dir, experiment=run)
        logger.best_checkpoint = best_checkpoint
        return logger

    kept = f"so the run is kept in {folder / 'wandb'} (upload it by `aunet sync {folder.parent.parent}`)"
    mode = os.environ.get("WANDB_MODE")
    _leave()  # what a row left that failed before it trained; this one would be written into it
    try:
        if mode is None and not wandb.login(prompt=False, verify=False):
            mode = "offline"
            log.info(f"wandb: no key is set, {kept}")
        return started(mode or "online")
    except wandb.Error as error:
        said = str(error).splitlines()[0]
        if mode not in (None, "online"):
            raise RunError(f"wandb: {said}") from None
        log.warning(f"wandb: the server cannot be used ({said}), {kept}")
        _leave()
        for begun in (folder / "wandb").glob(f"run-*-a{attempt}"):
            shutil.rmtree(begun, ignore_errors=True)
        return started("offline")


def send(
    logger: RunLogger,
    pictures: Mapping[str, Picture],
    frames: Sequence[WorstFrame],
    aus: Sequence[int],
    checkpoint: Path,
    step: int,
) -> None:
    """Sends what there is to see at a run's end.

    Args:
        logger: The run's.
        pictures: By their keys.
        frames: Rows of the table ``best/worst_frames_table``. wandb keeps the pictures in tables for a server
            that is there, and for offline runs, but not for a server that is lost: they are among
            ``pictures``, too.
        aus: AU number of each label of the frames.
        checkpoint: The best one; an artifact where the logger is to send it.
        step: Of the training.
    """
    run = logger.experiment
    shown = {key: wandb.Image(picture) for key, picture in pictures.items()}
    run.log({**shown, "best/worst_frames_table": _table(frames, aus), "trainer/global_step": step})
    if logger.best_checkpoint:
        artifact = wandb.Artifact(f"{run.id}-best", type="model")
        artifact.add_file(str(checkpoint), policy="immutable")
        run.log_artifact(artifact, aliases=["best"])


def finish(logger: RunLogger, succeeded: bool) -> None:
    """Ends the run, and tells it whether it succeeded; what is not sent in time stays for ``aunet sync``."""
    run = logger.experiment
    file = Path(run.dir).parent / f"run-{run.id}.wandb"
    run.config.update({"finished": succeeded}, allow_val_change=True)
    try:
        run.finish(exit_code=0 if succeeded else 1)
    except TimeoutError:
        sweep = Path(str(logger.save_dir)).parent.parent
        log.warning(
            f"wandb: the server did not take all in {run.settings.finish_timeout:.0f} s; it is kept in "
            f"{file.parent} (upload it by `aunet sync {sweep}`)"
        )
        return
    if file.exists() and not run.offline:
        Path(f"{file}{SYNCED}").touch()


def _identity(name: str, attempt: int) -> str:
    """A new id for an attempt; its end tells ``aunet sync`` which attempt it is."""
    plain = re.sub(r"[^\w-]+", "-", name, flags=re.ASCII)[:80]
    return f"{plain}-{secrets.token_hex(4)}-a{attempt}"


def _leave() -> None:
    """Ends a run that was begun in this process and not ended."""
    if wandb.run is not None:
        with suppress(TimeoutError):  # what could not be sent is in its folder
            wandb.finish(exit_code=1)


def _splits(folder: Path) -> wandb.Table:
    """Size of each split."""
    splits = (read_json(folder / "provenance.json") or {}).get("splits", {})
    columns = ["videos", "frames"]
    rows = [[split, *(counts[key] for key in columns)] for split, counts in splits.items()]
    return wandb.Table(columns=["split", *columns], data=rows)


def _table(frames: Sequence[WorstFrame], aus: Sequence[int]) -> wandb.Table:
    columns = [f"{au_column(au)} {what}" for au in aus for what in ("label", "probability")]
    table = wandb.Table(columns=["video", "frame", "loss", "worst AU", "image", "attention", *columns])
    for found in frames:
        seen = [None if p is None else wandb.Image(p) for p in (found.image, found.attention)]
        values = [
            value
            for label, prob in zip(found.labels, found.probs, strict=True)
            for value in (None if label < 0 else int(label), round(float(prob), 4))
        ]
        table.add_data(
            found.video, found.frame, round(found.loss, 4), au_column(aus[found.worst]), *seen, *values
        )
    return table
