"""Predicts a split of a data set that a configuration names: its frames are aligned crops already."""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from aunet.config import named_data
from aunet.data.faults import DataError, one_line
from aunet.predict.faces import crop_rows
from aunet.predict.options import Options
from aunet.predict.rows import empty_rows
from aunet.predict.stream import Classify, Piece, fill
from aunet.progress import progress

log = logging.getLogger(__name__)


def set_key(overrides: Sequence[str]) -> str:
    """Of the input that overrides name together."""
    return " ".join(overrides)


def set_pieces(
    overrides: Sequence[str],
    options: Options,
    classify: Classify,
    side: int,
    num_aus: int,
    device: torch.device,
) -> Iterator[Piece]:
    """The rows of a split, named by their videos, with the frames' numbers in the data set.

    A picture that the data set's ``on_bad=skip`` leaves out has a row without a face.

    Args:
        overrides: Name the data set, such as "data=affwild2" and "data.root=DIR".
        options: Which split, and its frames per second.
        classify: The network.
        side: Of the crops that it takes.
        num_aus: Of the records.
        device: Where the network runs.
    """
    key, split, problem = set_key(overrides), options.split, None
    fps = options.fps or np.nan
    try:
        data = named_data(overrides)
        if data.image_size != side:
            raise DataError(
                f"data.image_size is {data.image_size}, while the network takes crops of {side}x{side}"
            )
        data.prepare_data()
        data.setup("fit")
        if split not in data.tables:
            raise DataError(f"has no split {split!r} but {', '.join(data.tables)}")
        table = data.tables[split]
        with progress(f"predicting {split}", len(table), "frames") as advance:
            for batch in data.batches(split, device):
                index = batch["index"].cpu().numpy()
                frame = table.frame[index]
                found = crop_rows(batch["frames"], frame, (frame - 1) / fps, num_aus)
                fill(classify, [found])
                skipped = [row for row in range(len(index)) if index[row] in data.skipped.get(split, ())]
                for row in skipped:
                    found.rows[row] = empty_rows(1, num_aus)[0]
                    found.rows["frame"][row], found.rows["time_s"][row] = frame[row], (frame[row] - 1) / fps
                video = table.video[index]
                starts = [0, *(np.flatnonzero(np.diff(video)) + 1).tolist(), len(index)]
                for start, end in pairwise(starts):
                    name = table.videos[video[start]]
                    yield Piece(key, name, found.rows[start:end], done=False)
                advance(len(index))
    except (ValueError, OSError) as error:  # a DataError is a ValueError, too
        problem = one_line(f"{key}: {error}")
    except Exception as error:  # overrides that the reader did not expect; other inputs go on
        log.debug("of the data set", exc_info=True)
        problem = one_line(f"{key}: cannot be read as it is asked for ({type(error).__name__}: {error})")
    yield Piece(key, key, empty_rows(0, num_aus), problem=problem)
