"""The workspace on wandb in which rows are compared: finished attempts only, seeds of a row together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

from aunet.facs import au_column
from aunet.files import replacing
from aunet.runs import RunError
from aunet.tracking.loggers import require

_RUNS = 100
"""That a panel shows; wandb's default is 10."""


def workspace(entity: str, project: str, sweep: str, aus: Sequence[int]) -> Any:
    """A workspace of the sweep's rows; nothing is sent.

    Args:
        entity: Who owns it: a user or a team.
        project: Of the runs.
        sweep: Group of the runs.
        aus: AU numbers to show.

    Returns:
        A ``Workspace`` of wandb-workspaces, checked by it.

    Raises:
        RunError: wandb-workspaces is not installed.
    """
    require("wandb_workspaces", "the dashboard", "dashboard")
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports.v2 import interface as wr

    by_row: dict[str, Any] = {"groupby": "JobType", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}

    def bars(title: str, metric: str) -> Any:
        return wr.BarPlot(title=title, metrics=[wr.SummaryMetric(metric)], range_x=(0, 1), **by_row)

    def curves(title: str, metric: str) -> Any:
        return wr.LinePlot(title=title, x="epoch", y=[metric], max_runs_to_show=_RUNS, **by_row)

    pictures = "precision_recall", "reliability", "worst_frames"
    names = [au_column(au) for au in aus]
    sections = {
        "Rows": [
            bars("F1 by row, mean and spread over seeds", "best/val/f1"),
            bars("average precision by row", "best/val/average_precision"),
            bars("calibration error by row", "best/val/ece"),
            wr.RunComparer(diff_only="split"),
        ],
        "AUs": [bars(f"F1 of {au}", f"best/val/f1/{au}") for au in names],
        "Learning": [
            curves("F1", "val/f1"),
            curves("loss in training", "train/loss_epoch"),
            curves("loss in validation", "val/loss"),
            curves("learning rate", "lr"),
            curves("frames per second", "time/frames_per_second"),
            curves("share of time waiting for data", "time/data_wait"),
        ],
        "Precision, recall, calibration": [
            *(wr.MediaBrowser(media_keys=[f"best/{key}"]) for key in pictures),
            wr.WeavePanelSummaryTable(table_name="best/worst_frames_table"),
        ],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"aunet {sweep}",
        sections=[
            ws.Section(name=name, panels=panels, is_open=name in ("Rows", "AUs"))
            for name, panels in sections.items()
        ],
        settings=ws.WorkspaceSettings(max_runs=_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("Group") == sweep, ws.Metric("State") == "finished"],
            groupby=[ws.Metric("JobType")],
        ),
    )


def create(sweep: str, aus: Sequence[int], project: str, entity: str | None, offline: bool, out: Path) -> str:
    """Saves the workspace; without a key, or where that is asked for, writes it to a file instead.

    Args:
        sweep: Group of the runs.
        aus: AU numbers to show.
        project: Of the runs.
        entity: Who shall own it; None: whose key is set.
        offline: Ask no server.
        out: File that takes it as JSON.

    Returns:
        What was done, in words with the link.

    Raises:
        RunError: wandb-workspaces is not installed, or the server does not take it.
    """
    built = workspace(entity or "nobody", project, sweep, aus)
    if offline or not wandb.login(prompt=False, verify=False):
        with replacing(out) as temporary:
            temporary.write_text(
                built._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1)
            )
        why = "offline" if offline else "no key is set"
        return f"The workspace is sound and written to {out}, but not saved: {why}"
    try:
        built.entity = entity or wandb.Api().default_entity
        return f"The workspace: {built.save().url}"
    except Exception as error:  # whatever wandb's client makes of what the server says, or does not say
        raise RunError(f"the server does not take the workspace: {error}") from None
