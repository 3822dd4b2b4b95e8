"""The loss of DINO: the student names the teacher's prototype of another view of the same picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_SINKHORN_ROUNDS = 3
_UNIFORM_SHARE = 0.98
_ONE_PROTOTYPE_SHARE = 0.05
_LEAST_RANK = 2.0


def sinkhorn(logits: Tensor, temperature: float, rounds: int = _SINKHORN_ROUNDS) -> Tensor:
    """Soft assignments ``(N, P)`` from ``logits (N, P)``: rows sum to 1, and every prototype gets about N / P pictures.

    Sinkhorn-Knopp on ``exp(logits / temperature)``, columns and rows in turn (SwAV, arXiv 2006.09882; in DINOv2, arXiv 2304.07193, section 4).
    """
    log_share = logits / temperature
    count, prototypes = logits.shape
    for _ in range(rounds):
        log_share = log_share - torch.logsumexp(log_share, dim=0, keepdim=True) + math.log(count / prototypes)
        log_share = log_share - torch.logsumexp(log_share, dim=1, keepdim=True)
    return log_share.exp()


class Centre(nn.Module):
    """DINO's centring: ``softmax((logits - c) / temperature)`` with c a running mean of the teacher's logits (arXiv 2104.14294, equation 4)."""

    centre: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Assignments ``(N, P)`` of ``logits (N, P)``; then c moves towards their mean."""
        assigned = torch.softmax((logits - self.centre) / temperature, dim=-1)
        self.centre.lerp_(logits.mean(0), 1.0 - self.momentum)
        return assigned


class Sinkhorn(nn.Module):
    """DINOv2's centring; it has no state."""

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Assignments ``(N, P)`` of ``logits (N, P)``."""
        return sinkhorn(logits, temperature)


def view_loss(student: Tensor, assigned: Tensor, temperature: float) -> Tensor:
    """Mean of ``H(p_t, p_s) = -p_t . log softmax(logits / temperature)`` over pictures and pairs of different views (equation 2).

    ``student (V, N, P)`` logits, the teacher's views first; ``assigned (G, N, P)`` of the teacher's G views.
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    agreement = torch.einsum("gnp,vnp->gv", assigned, log_student) / student.shape[1]
    different = ~torch.eye(len(assigned), len(student), dtype=torch.bool, device=student.device)
    return -agreement[different].mean()


def patch_loss(student: Tensor, assigned: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of hidden patches, ``student (M, P)`` logits against ``assigned (M, P)`` (iBOT, arXiv 2111.07832, equation 2)."""
    return -(assigned * functional.log_softmax(student / temperature, dim=-1)).sum(-1).mean()


@dataclass(frozen=True)
class Monitors:
    """Signs of collapse, in nats.

    ``entropy``: mean entropy of the teacher's assignments, log P when they are uniform. ``kl_to_uniform``: of their mean over the batch, up to log P
    when every picture has the same prototype; ``rank``: effective rank of the class tokens of the batch.
    """

    entropy: float
    kl_to_uniform: float
    rank: float


def assignment_monitors(assigned: Tensor, rank: float) -> Monitors:
    """Of the teacher's assignments ``(N, P)`` as the student is taught them."""
    mean = assigned.mean(0)
    entropy = torch.special.entr(assigned).sum(-1).mean()
    return Monitors(float(entropy), math.log(assigned.shape[1]) - float(torch.special.entr(mean).sum()), rank)


def distillation_warning(monitors: Monitors, prototypes: int, pictures: int) -> str | None:
    """One line when the teacher's output for ``pictures`` different pictures is collapsing, else None."""
    most = math.log(prototypes)
    if not all(math.isfinite(value) for value in (monitors.entropy, monitors.kl_to_uniform, monitors.rank)):
        return "the teacher's output is not finite; lower learning_rate"
    if monitors.entropy > _UNIFORM_SHARE * most:
        return f"the teacher is collapsing to uniform outputs (entropy {monitors.entropy:.2f} of {most:.2f}); lower distillation.teacher_temperature"
    # The mean of N assignments has at most log N of entropy more than they have themselves.
    spread = most - monitors.kl_to_uniform - monitors.entropy
    if spread < _ONE_PROTOTYPE_SHARE * min(math.log(pictures), most):
        return f"the teacher gives every picture the same output (information {spread:.2f} nats); use distillation.centring: sinkhorn"
    if monitors.rank < _LEAST_RANK:
        return f"the features are collapsing: effective rank {monitors.rank:.1f}"
    return None
