"""What ``Predictor.write`` calls to have its one input drawn."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from aunet.drawing.overlay import check_overlay, draw_overlay
from aunet.drawing.rows import Rows
from aunet.drawing.timeline import check_timeline, draw_timeline
from aunet.metrics import THRESHOLD
from aunet.predict import Options, Postprocess, Predictor
from aunet.predict.inputs import FileInput, check_is_no_input, find_inputs
from aunet.predict.options import DEFAULTS


class Drawing:
    """Draws an overlay, a timeline, or both.

    Args:
        predictor: Whose rows they are.
        overlay: See ``draw_overlay``; None for none.
        timeline: See ``draw_timeline``; None for none.
        options: How the file was looked at.
        postprocess: The one that the rows went through: its ``threshold``, if it has one, is marked.
    """

    def __init__(
        self,
        predictor: Predictor,
        overlay: str | Path | None = None,
        timeline: str | Path | None = None,
        options: Options = DEFAULTS,
        postprocess: Postprocess | None = None,
    ) -> None:
        self.predictor = predictor
        self.overlay = Path(overlay) if overlay else None
        self.timeline = Path(timeline) if timeline else None
        self.crops = options.crops
        threshold = getattr(postprocess, "threshold", THRESHOLD)
        self.thresholds = np.broadcast_to(np.asarray(threshold, np.float64), len(predictor.aus))

    def check(self, inputs: Sequence[str | Path]) -> None:
        """Refuses what could not be drawn, before any work is done.

        Raises:
            ValueError: There is not just one file, or it cannot be drawn into these.
            OSError: It cannot be read.
        """
        files, overrides, errors = find_inputs(inputs)
        if errors:
            raise errors[0]
        if overrides or len(files) != 1:
            raise ValueError(
                f"an overlay and a timeline are of one picture or video, and {len(files)} files are given"
                + (" beside a data set" if overrides else "")
            )
        for out in filter(None, (self.timeline, self.overlay)):
            check_is_no_input(out, files)
        if self.timeline:
            check_timeline(self.timeline, files[0].path)
        if self.overlay:
            check_overlay(self.overlay, files[0].path)

    def __call__(self, file: FileInput, rows: Callable[[], Iterator[Rows]]) -> None:
        """Draws what was asked for."""
        if self.timeline:
            draw_timeline(self.timeline, Path(file.name).name, rows, self.predictor.aus, self.thresholds)
        if self.overlay:
            draw_overlay(self.overlay, file.path, rows, self.predictor, self.thresholds, self.crops)
