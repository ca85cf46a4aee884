"""Predicting: pictures and videos in, named columns out.

    import aunet

    predictor = aunet.load("runs/table1/ours/seed0")
    table = predictor.predict("film.mp4")            # a dict of columns; pandas.DataFrame(table) shows it
    predictor.write("films.parquet", ["films/"])     # in constant memory, whatever the films' length

One row for each face of each frame; a frame without a face has a row with nothing in it. Faces are found by
MTCNN (``mtcnn``, ``detect``), followed through a video (``track``) and aligned (``align``) as the crops that
the network was trained on.
"""

from aunet.predict.frames import InputError
from aunet.predict.options import Options, Report
from aunet.predict.predictor import Predictor, load
from aunet.predict.rows import Columns, Postprocess

__all__ = ["Columns", "InputError", "Options", "Postprocess", "Predictor", "Report", "load"]
