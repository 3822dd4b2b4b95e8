"""How fast training is beside what the machine can do: real steps and a bare loop of their matrix products take turns."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from world_model.config import TrainConfig
from world_model.training.compute import open_fabric
from world_model.training.episodes import open_episodes
from world_model.training.learned import build
from world_model.training.step import TrainingStep
from world_model.training.world_model import draw_windows

# (matrices in a batch, rows, inner, columns)
Product = tuple[int, int, int, int]
_aten = torch.ops.aten
_PLAIN = {_aten.mm.default: (0, 1), _aten.addmm.default: (1, 2), _aten.bmm.default: (0, 1), _aten.baddbmm.default: (1, 2)}
_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu.default: (0, 2),
    _aten._scaled_dot_product_flash_attention.default: (0, 2),
    _aten._scaled_dot_product_efficient_attention.default: (0, 2),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward.default: (1, 5),
    _aten._scaled_dot_product_flash_attention_backward.default: (1, 5),
    _aten._scaled_dot_product_efficient_attention_backward.default: (1, 5),
}


class MatrixProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the matrix products of what runs inside, by shape; a convolution counts as the product of its unfolded input with its weights."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PLAIN:
            left, right = (args[i] for i in _PLAIN[func])
            self._add(left.shape[0] if left.dim() == 3 else 1, left.shape[-2], left.shape[-1], right.shape[-1])
        elif func in _ATTENTION:
            first, products = _ATTENTION[func]
            query, key = args[first], args[first + 1]
            matrices, rows, width, columns = query.shape[0] * query.shape[1], query.shape[2], query.shape[3], key.shape[2]
            for _ in range(products):
                self._add(matrices, rows, width, columns)
        elif func is _aten.convolution.default:
            self._add(1, result.shape[0] * result.shape[2:].numel(), args[1][0].numel(), args[1].shape[0])
        elif func is _aten.convolution_backward.default:
            gradient, _, weights = args[:3]
            pixels, inner, outer = gradient.shape[0] * gradient.shape[2:].numel(), weights[0].numel(), weights.shape[0]
            if args[-1][0]:
                self._add(1, pixels, outer, inner)
            if args[-1][1]:
                self._add(1, inner, pixels, outer)
        return result

    def _add(self, *product: int) -> None:
        matrices, rows, inner, columns = product
        self.counts[matrices, rows, inner, columns] += 1

    @property
    def flop(self) -> float:
        """Two for each multiply-add."""
        return 2.0 * sum(count * matrices * m * k * n for (matrices, m, k, n), count in self.counts.items())


def bare_loop(counts: Counter[Product], device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """Those products and nothing else, into memory that is there already."""
    operands: list[tuple[Tensor, Tensor, Tensor, int]] = []
    for (matrices, m, k, n), count in counts.items():
        left, right = torch.rand(matrices, m, k, device=device, dtype=dtype), torch.rand(matrices, k, n, device=device, dtype=dtype)
        operands.append((left, right, torch.empty(matrices, m, n, device=device, dtype=dtype), count))

    def loop() -> None:
        for left, right, out, count in operands:
            for _ in range(count):
                if len(left) == 1:
                    torch.mm(left[0], right[0], out=out[0])
                else:
                    torch.bmm(left, right, out=out)

    return loop


@dataclass(frozen=True)
class Throughput:
    """Medians over the rounds. ``step_s`` and ``roof_s`` are what a step and the bare loop take: processor time on a CPU, wall time on a GPU.

    ``gflop`` of matrix products in a step, ``counted_gflop`` by torch's own counter; ``ratio`` is ``roof_s / step_s``.
    """

    frames: int
    step_s: float
    roof_s: float
    wall_step_s: float
    gflop: float
    counted_gflop: float

    @property
    def ratio(self) -> float:
        """Share of the machine's speed at these shapes that training reaches."""
        return self.roof_s / self.step_s

    def to_json(self) -> dict[str, float]:
        """All figures by name."""
        return {
            "frames_per_step": self.frames,
            "frames_per_second": self.frames / self.step_s,
            "wall_frames_per_second": self.frames / self.wall_step_s,
            "gflop_per_step": self.gflop,
            "counted_gflop_per_step": self.counted_gflop,
            "gflops": self.gflop / self.step_s,
            "roof_gflops": self.gflop / self.roof_s,
            "ratio_to_roof": self.ratio,
        }


@torch.enable_grad()
def measure_throughput(config: TrainConfig, directories: list[Path], rounds: int, report: Callable[[int, int], None]) -> Throughput:
    """Time ``rounds`` training steps, data and jitter included, in turn with the bare loop of their matrix products.

    Raises:
        DatasetError: the data cannot be used.
        ConfigError: the machine does not have what the configuration asks for.
    """
    data = open_episodes(directories, config.held_out)
    fabric = open_fabric(config.compute, config.threads)
    learned = build(config, data.reader.frame, data.reader.action_dim)
    windows = draw_windows(fabric, config, data)
    step = TrainingStep(fabric, config, learned.jepa)
    batches = windows.steps(0, rounds + 2, fabric.device)
    with MatrixProducts() as products:
        step(next(batches))
    with FlopCounterMode(display=False) as counter:
        step(next(batches))
    dtype = torch.bfloat16 if "bf16" in str(fabric._precision.precision) else torch.float32
    loop = bare_loop(products.counts, fabric.device, dtype)
    loop()
    on_cpu = fabric.device.type == "cpu"
    spent: dict[str, list[float]] = {"step": [], "roof": [], "wall": []}
    for done in range(rounds):
        for name, work in (("step", lambda: step(next(batches))), ("roof", loop)):
            wall, clock = time.perf_counter(), time.process_time()
            work()
            if not on_cpu:
                torch.cuda.synchronize()
            passed = time.perf_counter() - wall
            spent[name].append(time.process_time() - clock if on_cpu else passed)
            if name == "step":
                spent["wall"].append(passed)
        report(done + 1, rounds)
    frames = config.jepa.batch * config.jepa.window // fabric.world_size
    return Throughput(
        frames=frames,
        step_s=median(spent["step"]),
        roof_s=median(spent["roof"]),
        wall_step_s=median(spent["wall"]),
        gflop=products.flop / 1e9,
        counted_gflop=counter.get_total_flops() / 1e9,
    )
