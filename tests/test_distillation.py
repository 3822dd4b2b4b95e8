"""The EMA teacher: where it is after k steps, what reaches it, what a checkpoint keeps of it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny_runs import tiny_config

from world_model.checkpoint import load_checkpoint, save_checkpoint
from world_model.jepa import Jepa
from world_model.objectives import ObjectiveConfig, Window, build_objective
from world_model.objectives.distillation import Distillation, momentum_at
from world_model.training import build


def student(seed: int = 0) -> Jepa:
    return build(tiny_config(seed=seed), (32, 32, 3), 2).jepa


def distillation(jepa: Jepa, momentum: float = 0.9) -> Distillation:
    objective = build_objective(ObjectiveConfig("distillation", momentum=momentum))
    assert isinstance(objective, Distillation)
    objective.prepare(jepa)
    return objective


def frames(batch: int = 3, length: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (batch, length, 32, 32, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def latents_of(jepa: Jepa, pictures: torch.Tensor) -> torch.Tensor:
    return jepa.encode(pictures.flatten(0, 1)).view(*pictures.shape[:2], 1, -1)


def test_the_momentum_goes_from_its_start_to_one_along_a_cosine():
    assert momentum_at(0, 100, 0.96) == pytest.approx(0.96)
    assert momentum_at(100, 100, 0.96) == pytest.approx(1.0)
    assert momentum_at(50, 100, 0.96) == pytest.approx(0.98)
    assert momentum_at(25, 100, 0.96) == pytest.approx(1 - 0.04 * (math.sqrt(0.5) + 1) / 2)


def test_after_k_steps_the_teacher_is_the_closed_form():
    """``xi_k = prod(tau) xi_0 + sum_i (1 - tau_i) prod_{j>i} tau_j theta_i``."""
    jepa = student()
    objective = distillation(jepa)
    start = {name: p.detach().double().clone() for name, p in objective.teacher.named_parameters()}
    path, draws = [], torch.Generator().manual_seed(1)
    for step in range(5):
        with torch.no_grad():
            for parameter in jepa.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
        path.append({name: p.detach().double().clone() for name, p in jepa.named_parameters()})
        objective.after_step(jepa, step, 8)
    taus = [1 - (1 - 0.9) * (math.cos(math.pi * step / 8) + 1) / 2 for step in range(5)]
    for name, slow in objective.teacher.named_parameters():
        expected = math.prod(taus) * start[name] + sum((1 - taus[i]) * math.prod(taus[i + 1 :]) * path[i][name] for i in range(5))
        assert torch.allclose(slow.double(), expected, atol=1e-5), name
        assert not torch.allclose(slow.double(), path[-1][name], atol=1e-5)


def test_the_teacher_is_encoder_and_projector_alone():
    jepa = student()
    names = {name for name, _ in distillation(jepa).teacher.named_parameters()}
    assert names == {name for name, _ in jepa.named_parameters() if not name.startswith("predictor.")}
    assert jepa.predictor is not None


def test_no_gradient_reaches_the_teacher_or_flows_through_the_targets():
    jepa = student()
    objective = distillation(jepa)
    pictures = frames()
    latents = latents_of(jepa, pictures)
    targets = objective.targets(pictures, latents)
    assert not targets.requires_grad and targets.shape == latents.shape
    assert not [p for p in objective.parameters() if p.requires_grad]
    loss = (latents[:, :-1] - targets[:, 1:]).square().mean() + objective(Window(latents, targets, latents[:, 1:]), torch.Generator())
    loss.backward()
    assert all(p.grad is None for p in objective.parameters())
    assert any(float(p.grad.abs().max()) > 0 for p in jepa.encoder.parameters())


def test_the_targets_are_those_of_the_teacher_not_of_the_student():
    jepa = student()
    objective = distillation(jepa)
    pictures = frames()
    assert torch.allclose(objective.targets(pictures, latents_of(jepa, pictures)), latents_of(jepa, pictures), atol=1e-5)  # at first they agree
    frozen = copy.deepcopy(jepa)
    with torch.no_grad():
        for parameter in jepa.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    targets = objective.targets(pictures, latents_of(jepa, pictures))
    assert torch.allclose(targets, latents_of(frozen, pictures), atol=1e-5)
    assert not torch.allclose(targets, latents_of(jepa, pictures), atol=0.1)


def test_the_teacher_is_told_the_joints_too():
    jepa = build(tiny_config(model={"proprioception": True}), (32, 32, 3), 2, joints=7).jepa
    assert jepa.proprioception is not None
    with torch.no_grad():
        for parameter in jepa.proprioception.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    objective = distillation(jepa)
    pictures, joints = frames(), torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(1))
    jepa.proprioception.eval()  # the student does without joints now and then; the teacher never
    latents = jepa.encode(pictures.flatten(0, 1), joints.flatten(0, 1)).view(3, 4, 1, -1)
    assert torch.allclose(objective.targets(pictures, latents, joints), latents, atol=1e-5)
    assert not torch.allclose(objective.targets(pictures, latents), latents, atol=1e-2)


def test_the_teacher_normalises_by_the_batch_in_every_mode():
    jepa = student()
    objective = distillation(jepa)
    pictures = frames()
    training = objective.train().targets(pictures, latents_of(jepa, pictures))
    assert torch.allclose(objective.eval().targets(pictures, latents_of(jepa, pictures)), training, atol=1e-6)


def test_a_checkpoint_keeps_the_teacher(tmp_path):
    jepa = student()
    objective = distillation(jepa)
    with torch.no_grad():
        for parameter in jepa.parameters():
            parameter.add_(0.1)
    objective.after_step(jepa, 0, 10)
    save_checkpoint(tmp_path / "a.safetensors", {"objective": objective}, None, {}, {})
    again = distillation(student(seed=3))
    load_checkpoint(tmp_path / "a.safetensors", {"objective": again}, None)
    assert all(torch.equal(a, b) for a, b in zip(objective.state_dict().values(), again.state_dict().values(), strict=True))
    assert len(objective.state_dict()) > 4
