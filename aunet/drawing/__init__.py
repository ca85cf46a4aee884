"""What was predicted, as pictures: laid over the frames (``overlay``), and over time (``timeline``).

    predictor.write("film.csv", "film.mp4", draw=Drawing(predictor, "overlay.mp4", "timeline.svg"))

Both are drawn from the rows of the table once it is complete, post-processed as it is: an overlay decodes its
video a second time, and memory stays constant, whatever the video's length.
"""

from aunet.drawing.drawing import Drawing
from aunet.drawing.overlay import check_overlay, draw_overlay
from aunet.drawing.timeline import check_timeline, draw_timeline

__all__ = ["Drawing", "check_overlay", "check_timeline", "draw_overlay", "draw_timeline"]
