"""What the further processes of tests/test_ddp.py import: it must be cheap to do so."""

from pathlib import Path

import torch
from torch import distributed, nn

from aunet.data.faults import DataError
from aunet.losses import BinaryCrossEntropy
from aunet.parallel import WholeBatchNorm, whole_batch, whole_batch_norms

CPU = torch.device("cpu")
ROWS = 8


class Stumbling(BinaryCrossEntropy):
    """Fails once, in the second process: at call number ``at`` in training, unless ``flag`` is there."""

    def __init__(self, flag: str, at: int, **arguments) -> None:
        super().__init__(**arguments)
        self.flag = Path(flag)
        self.at = at
        self.calls = 0

    def forward(self, logits, labels):
        self.calls += torch.is_grad_enabled()
        second = distributed.is_initialized() and distributed.get_rank() == 1
        if second and self.calls == self.at and not self.flag.exists():
            self.flag.touch()
            raise DataError("crop 7 is broken")
        return super().forward(logits, labels)


def network():
    """Batch normalisation over batch and positions, and over the batch alone, as in the paper's network."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, momentum=0.3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 9, 6),
        nn.BatchNorm1d(6, eps=1e-3, momentum=None),
        nn.ReLU(),
        nn.Linear(6, 3),
    ).double()


def batch(step):
    """Frames far from zero; of the odd rows, the second process's, few labels are known."""
    generator = torch.Generator().manual_seed(step)
    frames = torch.randn(ROWS, 3, 5, 5, generator=generator, dtype=torch.float64) * 3 + 50
    labels = torch.randint(0, 2, (ROWS, 3), generator=generator, dtype=torch.int8)
    labels[1::2, 1:] = -1
    labels[3::4] = -1
    return frames, labels


def offset_values():
    """float32 values whose squares' sum would lose their variance."""
    return torch.randn(ROWS, 5, 4, generator=torch.Generator().manual_seed(9)) + 3000


def steps(model, part, together=lambda rows: rows):
    """Losses, gradients of the last step, and the state after three steps of gradient descent."""
    loss_of = BinaryCrossEntropy(3)
    losses = []
    for step in range(3):
        frames, labels = (rows[part] for rows in batch(step))
        model.zero_grad()
        loss = loss_of(together(model(frames)), together(labels))
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    return {"losses": losses, "gradients": [p.grad for p in model.parameters()]}


def share(rank, world_size, folder):
    """One of several processes: its results go to ``folder``."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    part = slice(rank, None, world_size)
    model = whole_batch_norms(network(), CPU)
    parallel = nn.parallel.DistributedDataParallel(model)
    result = steps(parallel, part, whole_batch)
    result["state"] = model.state_dict()
    result["order"] = whole_batch(torch.arange(ROWS, dtype=torch.int8)[part])
    norm = WholeBatchNorm(5)
    result["offset"] = norm(offset_values()[part])
    result["half"] = norm(offset_values()[part].bfloat16()).dtype
    try:
        WholeBatchNorm(2)(torch.ones(1 - rank, 2))  # one value in all
    except ValueError as error:
        result["single"] = str(error)
    torch.save(result, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
