"""Predictor: a trained network, and all that lies between files and its probabilities."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aunet import trained
from aunet.locks import locked
from aunet.module import ActionUnitModule
from aunet.predict.detect import FaceDetector
from aunet.predict.faces import FaceFinder
from aunet.predict.frames import InputError
from aunet.predict.inputs import FileInput, check_is_no_input, find_inputs
from aunet.predict.options import DEFAULTS, Options, Report
from aunet.predict.output import check_output, write_table
from aunet.predict.rows import Columns, Postprocess, columns, empty_rows, postprocessed, row_type
from aunet.predict.sets import set_key, set_pieces
from aunet.predict.spool import Spool
from aunet.predict.stream import FileStream, Piece
from aunet.progress import progress

log = logging.getLogger(__name__)

Inputs = str | Path | Sequence[str | Path | FileInput]
"""Pictures, videos, folders of them, and overrides such as "data=rendered" that together name a data set."""

Draw = Callable[[FileInput, Callable[[], Iterator[npt.NDArray[np.void]]]], None]
"""Takes a file and its records in chunks, as often as it asks for them; they are post-processed."""


class Predictor:
    """Tells the Action Units of faces in pictures and videos. ``aunet.load(run)`` makes one.

    Args:
        module: A trained network.
        digest: Of its weights: rows of different networks are never mixed.
        device: Where everything runs.

    Attributes:
        aus: AU numbers, in the order of the columns.
        image_size: Side in pixels of the aligned crops that the network takes.
    """

    def __init__(self, module: ActionUnitModule, digest: str, device: torch.device) -> None:
        self.network = module.network.eval().to(device).to(memory_format=torch.channels_last)
        self.digest = digest
        self.device = device
        self.aus = module.aus
        self.image_size = self.network.image_size

    def predict(
        self, inputs: Inputs, options: Options = DEFAULTS, postprocess: Postprocess | None = None
    ) -> Columns:
        """Predicts into memory.

        Args:
            inputs: What to predict.
            options: How to look at it.
            postprocess: Applied to each face of each video, for instance
                ``aunet.config.postprocess("smoothed")``; None: an AU is present from 0.5 on.

        Returns:
            Columns by name, see ``aunet.predict.rows.columns``; ``pandas.DataFrame`` takes them as they are.

        Raises:
            ValueError: An input cannot be used at all. Of one that can be used in part, the rest is said.
        """
        files, overrides, errors = _found(inputs, options, postprocess)
        if errors:
            raise errors[0]
        rows, names = [empty_rows(0, len(self.aus))], []
        pending: dict[str, list[npt.NDArray[np.void]]] = {}
        for piece in self._pieces(self._finder(files, options), files, overrides, options):
            if len(piece.rows):
                pending.setdefault(piece.name, []).append(piece.rows)
            if not piece.done:
                continue
            if piece.problem and not pending:
                raise ValueError(piece.problem)
            if piece.problem:
                log.warning(piece.problem)
            for name, parts in pending.items():
                rows.append(postprocessed(np.concatenate(parts), postprocess))
                names += [name] * len(rows[-1])
            pending = {}
        return columns(np.concatenate(rows), names, self.aus)

    def write(
        self,
        out: str | Path,
        inputs: Inputs,
        options: Options = DEFAULTS,
        postprocess: Postprocess | None = None,
        draw: Draw | None = None,
    ) -> Report:
        """Predicts into a file, in constant memory; post-processing holds the rows of a video at once.

        Meanwhile the rows lie in ``OUT.partial``: a call that was killed goes on after the inputs that it had
        finished. A bad input does not keep the others from being predicted and written.

        Args:
            out: .csv, .parquet, .json (an array) or .jsonl (lines); takes its place when all is done.
            inputs: As ``predict``.
            options: As ``predict``.
            postprocess: As ``predict``.
            draw: Called for each file that has rows, once the table is there. If it fails, the same call
                goes on there, and why is among the problems.

        Raises:
            ValueError: The output cannot be written.
            RunError: ``OUT.partial`` holds rows of another prediction.
        """
        target = Path(out)
        check_output(target)
        files, overrides, errors = _found(inputs, options, postprocess)
        check_is_no_input(target, files)
        finder = self._finder(files, options)
        job = {"network": self.digest, "options": asdict(options), "postprocess": repr(postprocess)}
        keys = [file.key for file in files] + ([set_key(overrides)] if overrides else [])
        problems = [str(error) for error in errors]
        folder = target.with_name(f"{target.name}.partial")
        with locked(folder), Spool(folder, row_type(len(self.aus)), job) as spool:
            left = [file for file in files if file.key not in spool.done]
            if len(left) < len(files):
                log.info(f"{folder}: goes on after {len(files) - len(left)} of {len(files)} files")
            sets = [] if set_key(overrides) in spool.done else overrides
            for piece in self._pieces(finder, left, sets, options):
                spool.append(piece.name, piece.rows)
                if piece.done and spool.pending:
                    for name, rows in spool.take() if postprocess else ():
                        spool.append(name, postprocessed(rows, postprocess))
                    spool.finish(piece.key, piece.problem)
                elif piece.done and piece.problem:
                    problems.append(piece.problem)
            kept = [key for key in keys if key in spool.done]
            problems += [problem for key in kept if (problem := spool.done[key].problem)]
            count = 0
            if kept:
                parts = spool.chunks(kept)
                count = write_table(
                    target, (columns(rows, [name] * len(rows), self.aus) for name, rows in parts)
                )
            shown = [file for file in files if file.key in kept and spool.done[file.key].spans]
            undrawn = _draw_all(draw, shown, spool) if draw else []
            told = f"not drawn, but {target} is whole; the same command draws again"
            problems += [f"{error}: {told}" for error in undrawn]
            if not undrawn:
                spool.remove()
        return Report(target if kept else None, len(keys), count, tuple(problems))

    def _finder(self, files: Sequence[FileInput], options: Options) -> FaceFinder | None:
        """What finds the faces of the files, if they are to be found."""
        if options.crops or not files:
            return None
        detector = FaceDetector(self.device, options.min_face)
        return FaceFinder(detector, self.image_size, len(self.aus), options.detect_every)

    def _pieces(
        self,
        finder: FaceFinder | None,
        files: Sequence[FileInput],
        overrides: Sequence[str],
        options: Options,
    ) -> Iterator[Piece]:
        """The rows of everything, in order."""

        def classify(crops: Tensor) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                logits = [
                    self.network(part.to(self.device)).float()
                    for part in torch.split(crops, options.batch_size)
                ]
                probs: npt.NDArray[np.float32] = torch.cat(logits).sigmoid().cpu().numpy()
            return probs

        if files:
            stream = FileStream(finder, classify, self.image_size, len(self.aus))
            with progress("predicting", sum(file.size for file in files) // 1000, "kB") as advance:
                done = 0
                for piece in stream.pieces(files):
                    yield piece
                    advance((done + piece.size) // 1000 - done // 1000)
                    done += piece.size
        if overrides:
            yield from set_pieces(overrides, options, classify, self.image_size, len(self.aus), self.device)


def load(run: str | Path, device: str = "auto") -> Predictor:
    """A finished run's network, ready to predict.

    Args:
        run: The run's folder.
        device: "cpu", "cuda", "cuda:1", ...; "auto" takes CUDA where there is one.

    Raises:
        RunError: The folder is no finished run, or its crops are not aligned as this version of aunet does.
        ValueError: There is no such device.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        place = torch.device(chosen)
        torch.zeros(1, device=place).item()  # not every kind that torch knows is there, or holds numbers
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0][:100]
        raise ValueError(f"device={device}: not on this machine; say cpu, cuda or cuda:N ({said})") from None
    module = trained.load(run)
    weights = Path(run) / "best.ckpt"
    return Predictor(module, hashlib.sha256(weights.read_bytes()).hexdigest(), place)


def _draw_all(draw: Draw, files: Sequence[FileInput], spool: Spool) -> list[Exception]:
    """Draws what can be drawn; why the rest could not."""
    errors: list[Exception] = []
    for file in files:
        try:
            draw(file, partial(spool.rows, file.key))
        except (InputError, OSError) as error:  # of a full disk, or of pauses that a format cannot hold
            errors.append(error)
    return errors


def _found(
    inputs: Inputs, options: Options, postprocess: Postprocess | None
) -> tuple[list[FileInput], list[str], list[InputError]]:
    """As ``find_inputs``; refuses what no input would change."""
    files, overrides, errors = find_inputs([inputs] if isinstance(inputs, str | Path) else inputs)
    if overrides and not any(one.lstrip("+").startswith("data=") for one in overrides):
        raise ValueError(f"{overrides[0]}: of which data set? Add data=NAME, a file in conf/data")
    if overrides and postprocess is not None and options.fps is None:
        raise ValueError("post-processing goes by time, which a data set does not tell: give fps")
    return files, overrides, errors
