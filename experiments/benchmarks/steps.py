"""Training steps of one row's network: ``steps.py SIDE ROW BATCH_SIZE``, a contestant of ``training.py``.

A step is forward, loss, backward and optimiser, by plain torch on both sides, on one batch that stays.

    ours    the process set up as ``aunet train`` sets up its own, channels_last
    stock   the process as Python starts it, NCHW
"""

import sys
import time

import torch
from common import Answer, serve
from hydra.utils import instantiate

from aunet.config import compose
from aunet.data.loader import channels_first
from aunet.host import configure_host
from aunet.module import ActionUnitModule


def main(side: str, row: str, batch_size: int) -> None:
    """Answers with the seconds of a step, on average over the number asked for."""
    cfg = compose([f"experiment=table1/{row}", "data=affwild2", "weights=none", "bn_momentum=0.1"])
    if side == "ours":
        configure_host(**cfg.host)
    torch.manual_seed(0)
    module: ActionUnitModule = instantiate(cfg.model, _convert_="all")
    num_aus = len(module.aus)
    shape = (batch_size, cfg.data.image_size, cfg.data.image_size, 3)
    frames = channels_first(torch.randint(0, 256, shape, dtype=torch.uint8))
    if side == "ours":
        module.to(memory_format=torch.channels_last)
    else:
        frames = frames.contiguous()
    labels = torch.randint(0, 2, (batch_size, num_aus), dtype=torch.int8)
    counts = torch.full((num_aus,), 100.0)
    module.loss.set_counts(counts, 3 * counts)  # type: ignore[operator]
    optimizer: torch.optim.Optimizer = module.configure_optimizers()["optimizer"]
    module.train()

    def measure(number: int) -> Answer:
        begin = time.perf_counter()
        for _ in range(number):
            optimizer.zero_grad()
            module.loss(module(frames), labels).backward()
            optimizer.step()
        return {"seconds": (time.perf_counter() - begin) / number}

    serve(measure)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
