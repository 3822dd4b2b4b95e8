"""Two gloo processes, each with half a batch, against one process with the whole: the same penalty and the same gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from world_model.objectives import ObjectiveConfig, Window, build_objective

KINDS = ("sigreg", "vicreg", "barlow_twins", "info_nce")
BATCH, FRAMES, WIDTH = 8, 4, 5


def observations() -> torch.Tensor:
    return torch.randn(BATCH, FRAMES, 2, WIDTH, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 1.5, BATCH)[:, None, None, None]


def model() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(WIDTH, WIDTH)


def penalty(kind: str, net: nn.Module, batch: torch.Tensor, seed: int) -> torch.Tensor:
    latents = net(batch)
    objective = build_objective(ObjectiveConfig(kind, weight=1.0, directions=32))
    value: torch.Tensor = objective(Window(latents, latents, 0.7 * latents[:, 1:] + 0.3 * latents[:, :-1]), torch.Generator().manual_seed(seed))
    return value


def of_one_process(rank: int, store: str, folder: str) -> None:
    """What a rank computes: its half of the batch, a generator seeded otherwise than the other's, gradients averaged by DDP."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for kind in KINDS:
        net = DistributedDataParallel(model())
        value = penalty(kind, net, observations().chunk(2)[rank], seed=7 + 30 * rank)
        value.backward()
        found |= {f"{kind}/value": value.detach(), f"{kind}/weight": net.module.weight.grad, f"{kind}/bias": net.module.bias.grad}
    save_file(found, Path(folder) / f"rank-{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(of_one_process, (str(folder / "store"), str(folder)), nprocs=2)
    return [load_file(folder / f"rank-{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one_on_the_union_batch(ranks, kind):
    net = model()
    value = penalty(kind, net, observations(), seed=7)
    value.backward()
    halves = [float(penalty(kind, net, half, seed=7).detach()) for half in observations().chunk(2)]
    assert abs(sum(halves) / 2 - float(value.detach())) > 1e-3  # the mean over halves would be another number
    for found in ranks:
        assert float(found[f"{kind}/value"]) == pytest.approx(float(value.detach()), rel=1e-5)
        assert torch.allclose(found[f"{kind}/weight"], net.weight.grad, rtol=1e-4, atol=1e-5)
        # a shift of everything costs VICReg, Barlow Twins and InfoNCE nothing
        assert torch.allclose(found[f"{kind}/bias"], net.bias.grad, rtol=1e-4, atol=1e-5)
    assert float(net.weight.grad.abs().max()) > 1e-2
