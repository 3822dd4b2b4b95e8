"""From a fitted head to its ONNX graph, checked against torch, and to a folder on disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from world_model.graphs import to_onnx
from world_model.heads.card import CARD, GRAPH, HeadCard, HeadError, write_card
from world_model.heads.onnx_head import HeadGraph

_PARITY = 1e-4


@torch.inference_mode()
def head_graph(head: nn.Module, latents: torch.Tensor) -> bytes:
    """The graph of ``head``, which maps latents ``(N, D)`` to ``(N, ...)``.

    Raises:
        HeadError: on ``latents (N, D)`` it differs from torch by more than 1e-4 of the largest output.
    """
    with torch.inference_mode(False):
        graph = to_onnx(head, (torch.zeros(2, latents.shape[1]),), {"latents": {0: Dim("N")}}, ["values"])
    content: bytes = graph.SerializeToString()
    expected = head(latents).numpy()
    gap = float(abs(HeadGraph(content, GRAPH)(latents.numpy()) - expected).max())
    if not gap <= _PARITY * max(1.0, float(abs(expected).max())):
        raise HeadError(f"the graph of the head differs from torch by {gap:.2g}; nothing was written")
    return content


def write_head(out: Path, graph: bytes, card: HeadCard) -> None:
    """Write a head to the folder ``out``, whole or not at all; an earlier head there is replaced.

    Raises:
        HeadError: ``out`` holds something else.
    """
    refuse_other_content(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        (staging / GRAPH).write_bytes(graph)
        write_card(staging, card)
        staging.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def refuse_other_content(out: Path) -> None:
    """Make sure that ``out`` may be written, before minutes are spent on what goes there.

    Raises:
        HeadError: ``out`` holds something else than a head.
    """
    if out.exists() and not (out / CARD).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise HeadError(f"{out} is not a head and would be overwritten; choose another folder")
