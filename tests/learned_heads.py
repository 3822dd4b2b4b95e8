"""Guardrail heads made by hand: linear in the latent, so that what they say is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from world_model.bundle import bundle_sha256, read_manifest
from world_model.heads.card import HeadCard
from world_model.heads.graph import write_head


def write_linear_head(out: Path, bundle: Path, weights: list[float], bias: float, label: str = "tool_y > 9") -> Path:
    """A calibrated guardrail of ``bundle`` whose margin is ``weights . latent + bias``."""
    manifest = read_manifest(bundle)
    column = np.resize(np.array(weights, np.float32), manifest.latent_dim)
    tensors = [
        helper.make_tensor("w", TensorProto.FLOAT, (manifest.latent_dim, 1), column),
        helper.make_tensor("b", TensorProto.FLOAT, (1,), [bias]),
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["latents", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["values"])],
        "head",
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", manifest.latent_dim])],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", 1])],
        tensors,
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    card = HeadCard(out.name, "guardrail", label, bundle_sha256(manifest), manifest.latent_dim, "m", ("margin",), 1, 0.0, 0.1, 9, 1.0, {"missed": 0})
    write_head(out, content, card)
    return out
