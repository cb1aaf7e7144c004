"""A training step of every network that reads edits, on one core: MMNet and SeqFakeFormer, alternating in one run."""

import time

import torch
from common import finish, parser, spread

from unmask.edits.decoding import SEQUENCES
from unmask.lab.engine import make_fabric
from unmask.lab.methods import build

METHODS = ("seqfakeformer", "mmnet")
SIZE, FACES, CELLS = 128, 16, 64
TRUNK = {"trunk": "efficientnet_lite0"}


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=20)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    make_fabric(half_on_cpu=False)  # for what it asks of the C library
    sequences = SEQUENCES[torch.randint(0, len(SEQUENCES), (FACES,))]
    faces, originals = torch.rand(2, FACES, 3, SIZE, SIZE)
    masks = torch.rand(FACES, 5, CELLS, CELLS).round()
    batch = {
        "faces": faces.contiguous(memory_format=torch.channels_last),
        "sequences": sequences,
        "originals": originals,
        "masks": masks,
        "unions": masks.amax(1, keepdim=True),
        "paired": torch.ones(FACES),
        "progress": torch.tensor(0.5),
    }
    networks = {name: build(name, TRUNK, size=SIZE).to(memory_format=torch.channels_last).train() for name in METHODS}
    optimisers = {name: torch.optim.AdamW(network.parameters(), 1e-4) for name, network in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for repeat in range(chosen.repeats + 2):
        for name, network in networks.items():
            began = time.perf_counter()
            optimisers[name].zero_grad(set_to_none=True)
            torch.stack(list(network.training_losses(batch).values())).sum().backward()
            optimisers[name].step()
            if repeat >= 2:  # the first ones warm up
                seconds[name].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(seconds["mmnet"], seconds["seqfakeformer"], strict=True)]
    results = {
        "faces": FACES,
        "size": SIZE,
        "seconds": {name: spread(some) for name, some in seconds.items()},
        "mmnet, times seqfakeformer": spread(ratios),
    }
    finish(chosen, "training", results)


if __name__ == "__main__":
    main()
