"""Whole epochs: ``epochs.py SIDE FRAMES BATCH_SIZE OUT [OVERRIDE ...]``, a contestant of the benchmarks.

    ours    ``aunet.train`` of row ``ours``, with all that it does: loader, metrics, history, checkpoints, bar
    stock   what a user writes with stock Lightning: Pillow, two workers, torchmetrics, defaults elsewhere
    bare    a loop of plain torch over decoded frames in memory, in a process set up as ours

Overrides are of the configuration of ours.

An epoch is training and validation, and ends when the next one could begin. The first question starts the
first epoch. Of ours and stock, answers also tell how long training waited for ``next(loader)``.
"""

import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_set
import pytorch_lightning as pl
import torch
from common import Questions
from hydra.utils import instantiate
from others import usual_loader
from pytorch_lightning.profilers import Profiler
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics.classification import MultilabelF1Score

from aunet.config import compose, quoted
from aunet.data.frames import FrameTable
from aunet.data.loader import channels_first
from aunet.host import configure_host
from aunet.module import ActionUnitModule, ConfusionCounts
from aunet.network import AUNet

EPOCHS = 10_000
"""More than anyone asks for: a contestant ends when there are no more questions."""

_questions: Questions | None = None


class Waits(Profiler):
    """Seconds that each of Lightning's actions took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.started: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """An action begins."""
        self.started[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """An action ends."""
        self.seconds[action_name] += time.perf_counter() - self.started[action_name]


class Gate(pl.Callback):
    """Lets each epoch begin with a question, and answers with what it took."""

    def __init__(self, questions: Questions, waits: Waits) -> None:
        self.questions = questions
        self.waits = waits
        self.started = 0.0
        self.trained = 0.0
        self.batches = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends one epoch and waits for the question that starts the next."""
        now = time.perf_counter()
        if self.started:
            self.questions.answer(
                seconds=now - self.started,
                training=self.trained - self.started,
                waiting=sum(v for k, v in self.waits.seconds.items() if k.endswith("train_dataloader_next")),
                batches=self.batches,
            )
        if self.questions.next() is None:
            sys.exit()  # nothing is kept of what was trained
        self.waits.seconds.clear()
        self.batches = 0
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The last of these ends the training part."""
        self.batches += 1
        self.trained = time.perf_counter()


def make_trainer(callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    """The configured trainer, behind a gate; ``trainer._target_`` names this function."""
    if _questions is None:
        raise RuntimeError("there is nobody who asks")
    waits = Waits()
    return pl.Trainer(callbacks=[Gate(_questions, waits), *callbacks], profiler=waits, **options)


def ours(data: Path, batch_size: int, out: Path, overrides: Sequence[str] = ()) -> None:
    """Epochs by ``aunet.train`` as the command line starts it."""
    from aunet.train import train

    sys.modules["epochs"] = sys.modules[
        __name__
    ]  # Hydra finds this script's function, and its state, by this name
    cfg = compose([
        "experiment=table1/ours", "data=affwild2", f"data.root={quoted(str(data))}", "bn_momentum=0.1",
        f"batch_size={batch_size}", f"out_dir={quoted(str(out))}", f"epochs={EPOCHS}",
        f"runs={quoted(str(out))}",
        "trainer._target_=epochs.make_trainer", *overrides,
    ])  # fmt: skip
    train(cfg)


class Stock(pl.LightningModule):
    """What a user writes around the same network: the loss, an optimiser, F1 of both splits."""

    def __init__(self, network: AUNet, num_aus: int) -> None:
        super().__init__()
        self.network = network
        self.train_f1 = MultilabelF1Score(num_aus)
        self.val_f1 = MultilabelF1Score(num_aus)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised floats -> logits."""
        return self.network.classify(self.network.backbone(pixels))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss and F1 of one batch."""
        pixels, labels = batch
        logits = self(pixels)
        loss = binary_cross_entropy_with_logits(logits, labels.float())
        self.train_f1(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_f1", self.train_f1, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and F1 of one batch."""
        pixels, labels = batch
        logits = self(pixels)
        self.val_f1(logits, labels)
        self.log("val_loss", binary_cross_entropy_with_logits(logits, labels.float()))
        self.log("val_f1", self.val_f1, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def built(batch_size: int) -> ActionUnitModule:
    """The network of ``ours`` with its loss and optimiser."""
    cfg = compose(["experiment=table1/ours", "data=affwild2", f"batch_size={batch_size}", "bn_momentum=0.1"])
    module: ActionUnitModule = instantiate(cfg.model, _convert_="all")
    return module


def stock(data: Path, batch_size: int, out: Path, questions: Questions) -> None:
    """Epochs by stock Lightning: NCHW, glibc's allocator as it is, defaults wherever there are any."""
    module = bench_set.module_of(data)
    module.setup("fit")
    tables = module.tables
    network = built(batch_size).network
    waits = Waits()
    trainer = pl.Trainer(
        max_epochs=EPOCHS, default_root_dir=out, callbacks=[Gate(questions, waits)], profiler=waits
    )
    train, val = (usual_loader(tables[split], batch_size, 2, split == "train") for split in ("train", "val"))
    trainer.fit(Stock(network, len(module.aus)), train, val)


def bare(data: Path, batch_size: int, questions: Questions) -> None:
    """Epochs by a loop: our network, loss and counts, everything else left out."""
    configure_host()
    module = bench_set.module_of(bench_set.store_place(data, decoded=True))
    module.setup("fit")
    frames = {split: _in_memory(table) for split, table in module.tables.items()}
    labels = {split: torch.from_numpy(table.labels[:]) for split, table in module.tables.items()}
    model = built(batch_size).to(memory_format=torch.channels_last)
    positives, known = module.training_counts()
    model.loss.set_counts(torch.from_numpy(positives), torch.from_numpy(known))  # type: ignore[operator]
    optimizer: torch.optim.Optimizer = model.configure_optimizers()["optimizer"]
    counts = ConfusionCounts(len(module.aus))

    def epoch() -> dict[str, float]:
        begin = time.perf_counter()
        model.train()
        order = torch.randperm(len(frames["train"]))
        for rows in torch.split(order[: len(order) // batch_size * batch_size], batch_size):
            optimizer.zero_grad()
            logits = model(channels_first(frames["train"][rows]))
            model.loss(logits, labels["train"][rows]).backward()
            optimizer.step()
        trained = time.perf_counter()
        model.eval()
        with torch.no_grad():
            for rows in torch.split(torch.arange(len(frames["val"])), module.val_batch_size):
                logits = model(channels_first(frames["val"][rows]))
                model.loss(logits, labels["val"][rows])
                counts.update(logits, labels["val"][rows])
        counts.compute()
        counts.reset()
        return {"seconds": time.perf_counter() - begin, "training": trained - begin}

    while questions.next() is not None:
        questions.answer(**epoch())


def _in_memory(table: FrameTable) -> Tensor:
    pixels = bytearray().join(table.source.read(row) for row in range(len(table)))
    return torch.frombuffer(pixels, dtype=torch.uint8).view(len(table), *table.source.raw)  # type: ignore[misc]


def main(side: str, data: Path, batch_size: int, out: Path, overrides: Sequence[str] = ()) -> None:
    """Trains until nobody asks any more; what was written goes with it."""
    global _questions
    _questions = Questions()
    folder = Path(tempfile.mkdtemp(prefix=f"{side}-", dir=out))
    try:
        if side == "ours":
            ours(data, batch_size, folder, overrides)
        elif side == "stock":
            stock(data, batch_size, folder, _questions)
        else:
            bare(data, batch_size, _questions)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
