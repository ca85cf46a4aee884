"""What a table holds: rows, and what its reader has to know."""

from dataclasses import dataclass, field
from typing import Any

from aunet.statistics import FEW_VIDEOS, Difference, Estimate

ALPHA = 0.05
"""Corrected p-value below which a difference counts as more than chance."""


@dataclass
class Row:
    """One row of a table: a configuration, its finished seeds averaged.

    Attributes:
        name: The row's name; ``<sweep>/<row>`` where several sweeps share the table, with the folder for
            sweep where two have the same name.
        title: In words; rows that share them have their names behind.
        seeds: Those that have finished.
        unfinished: Reason for each seed that was asked for and has not finished.
        f1: Macro F1 with its interval over videos and seeds; None without a finished seed, as all below.
        spread: Standard deviation of macro F1 over the seeds; None for a single one.
        f1_per_au: The same as ``f1`` for each AU.
        measures: Those of ``aunet.measures.summary``, mean over the seeds, ``{"roc_auc": {"macro": ...,
            "AU1": ...}}``; None where a measure is undefined.
        reference: Row that ``difference`` is taken from.
        difference: Macro F1 less that of the reference, over the seeds that both have.
        seeds_compared: Number of these seeds.
        p_corrected: Its p-value after Holm's correction over the table.
        paper_f1: What the paper reports for Aff-Wild2's validation set.
        starts: How the backbone starts: "from scratch" or "pre-trained", perhaps ", frozen".
        epochs: Of the training.
        seconds: Wall time of training and validation, mean over the seeds.
        parameters: Of the network.
        flops: Operations of one image's forward pass.
    """

    name: str
    title: str
    seeds: list[int]
    unfinished: dict[int, str]
    f1: Estimate | None = None
    spread: float | None = None
    f1_per_au: dict[str, Estimate] = field(default_factory=dict)
    measures: dict[str, dict[str, float | None]] = field(default_factory=dict)
    reference: str | None = None
    difference: Difference | None = None
    seeds_compared: int = 0
    p_corrected: float | None = None
    paper_f1: float | None = None
    starts: str = ""
    epochs: int | None = None
    seconds: float | None = None
    parameters: int | None = None
    flops: int | None = None

    @property
    def differs(self) -> bool:
        """Whether the difference is more than chance, see ``more_than_chance``."""
        if self.difference is None or self.p_corrected is None:
            return False
        return more_than_chance(self.difference, self.p_corrected, self.seeds_compared)


def more_than_chance(difference: Difference, p: float, seeds: int) -> bool:
    """Whether two rows differ by more than which videos there were and which seeds were drawn.

    The test knows the videos only, and tells any two trained networks apart that err on different frames; so
    the interval, which knows the seeds as well, has to leave out 0, and there have to be several.

    Args:
        difference: Of the rows, with its interval over videos and seeds.
        p: Its p-value, corrected.
        seeds: Number of seeds of each row that were compared.
    """
    return seeds > 1 and p < ALPHA and not difference.low <= 0 <= difference.high


@dataclass
class Table:
    """A table and what its reader has to know.

    Attributes:
        rows: In order.
        aus: Columns of single AUs.
        data: Name of the data set.
        groups: Number of independent videos (or people) in its validation split.
        trivial: Macro F1 of predictors that see no pixel.
        provenance: Data, code, packages and machines of the runs.
    """

    rows: list[Row]
    aus: list[str] = field(default_factory=list)
    data: str = ""
    groups: int = 0
    trivial: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def few_groups(table: Table) -> bool:
    """Whether intervals of the table may cover less than they promise."""
    return 0 < table.groups < FEW_VIDEOS
