"""A training step of the forgery detector `plain` on one core, against what the core computes at most, by operator."""

import time
from collections.abc import Callable

import torch
from common import finish, parser, spread
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from unmask.forgery.plain import Plain
from unmask.lab.engine import make_fabric

PAIRS = 16
SIDES = (112, 224)
SHARES = {
    "convolutions, backward": "aten::convolution_backward",
    "convolutions, forward": "aten::mkldnn_convolution",
    "normalisation, backward": "aten::native_batch_norm_backward",
    "normalisation, forward": "aten::native_batch_norm",
    "activation, backward": "aten::hardtanh_backward",
}


def seconds_of(action: Callable[[], object], repeats: int) -> list[float]:
    """Times of an action, the first two left out."""
    times = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return times[2:]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=8)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    fabric = make_fabric()
    dtype = torch.bfloat16 if fabric.precision == "bf16-mixed" else torch.float32  # type: ignore[attr-defined]
    square = torch.rand(2, 2048, 2048).to(dtype)
    peak = 2 * 2048**3 / min(seconds_of(lambda: square[0] @ square[1], 10)) / 1e9
    results: dict[str, object] = {"pairs": PAIRS, "dtype": str(dtype), "matrix product, GFLOP/s": round(peak, 1)}
    for side in SIDES:
        network = Plain(weights="none").to(memory_format=torch.channels_last).train()
        wrapped, optimiser = fabric.setup(network, torch.optim.AdamW(network.parameters(), lr=1e-4))
        wrapped.mark_forward_method("training_losses")
        faces = torch.rand(2 * PAIRS, 3, side, side).contiguous(memory_format=torch.channels_last)
        masks = torch.zeros(2 * PAIRS, 1, side // 8, side // 8)
        batch = {"faces": faces, "labels": torch.tensor([0.0, 1.0]).repeat(PAIRS), "masks": masks}

        def step(
            wrapped: torch.nn.Module = wrapped,
            optimiser: torch.optim.Optimizer = optimiser,
            batch: dict[str, torch.Tensor] = batch,
        ) -> None:
            loss = torch.stack(list(wrapped.training_losses(batch).values())).sum()  # type: ignore[operator]
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimiser.step()

        with FlopCounterMode(display=False) as counter:
            step()
        times = seconds_of(step, chosen.repeats)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            step()
        own = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
        total = sum(own.values())
        gflop = counter.get_total_flops() / 1e9
        results[f"{side} x {side}"] = {
            "seconds": spread(times),
            "GFLOP": round(gflop, 1),
            "share of a matrix product": round(gflop / sorted(times)[len(times) // 2] / peak, 3),
            "shares of the time": {name: round(own.get(key, 0) / total, 3) for name, key in SHARES.items()},
        }
    finish(chosen, "detector_training", results)


if __name__ == "__main__":
    main()
