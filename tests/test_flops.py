"""Operations of graphs: by hand, in loops, and as torch counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from latent_mpc.bench_model import CountedModel
from latent_mpc.bringup import find_shared
from latent_mpc.flops import FlopError, count, count_file
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from world_model.bundle import read_manifest
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.untrained import untrained

F = TensorProto.FLOAT


def graph(nodes, inputs, outputs, weights=()):
    values = [[helper.make_tensor_value_info(name, F, shape) for name, shape in group.items()] for group in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in dict(weights).items()]
    return helper.make_graph(nodes, "g", *values, tensors)


def model(*args, **kwargs):
    made = helper.make_model(graph(*args, **kwargs), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def test_products_and_convolutions_by_hand():
    node = helper.make_node
    batched = model([node("MatMul", ["x", "y"], ["z"])], {"x": ["N", 4, 5], "y": ["N", 5, 6]}, {"z": ["N", 4, 6]})
    assert count(batched, {"N": 3}).by_operator == {"MatMul": 2 * 3 * 4 * 5 * 6}
    gemm = model([node("Gemm", ["x", "w"], ["z"], transA=1, transB=1)], {"x": [7, "N"]}, {"z": ["N", 9]}, {"w": (9, 7)})
    assert count(gemm, {"N": 2}).total == 2 * 2 * 7 * 9
    # 3 x 3 over 8 channels in 2 groups, stride 2: 5 x 5 places, 6 channels out.
    conv = node("Conv", ["x", "w"], ["z"], strides=[2, 2], pads=[1, 1, 1, 1], group=2)
    assert count(model([conv], {"x": ["N", 8, 9, 9]}, {"z": ["N", 6, 5, 5]}, {"w": (6, 4, 3, 3)}), {"N": 1}).total == 2 * 6 * 25 * 4 * 9
    with pytest.raises(FlopError, match="input 'x' has the free dimension 'N', which was given no size"):
        count(gemm, {})


def test_what_is_not_counted_is_refused_rather_than_left_out():
    einsum = model([helper.make_node("Einsum", ["x", "x"], ["z"], equation="ij,jk->ik")], {"x": [3, 3]}, {"z": [3, 3]})
    with pytest.raises(FlopError, match="operator Einsum is not counted"):
        count(einsum, {})


def test_a_scan_counts_its_body_as_often_as_it_runs_and_borrows_weights_from_outside():
    """x <- x W + a for each action a along axis 1: H products of (N, 4) by (4, 4)."""
    body = graph(
        [helper.make_node("MatMul", ["s", "w"], ["p"]), helper.make_node("Add", ["p", "a"], ["t"]), helper.make_node("Identity", ["t"], ["o"])],
        {"s": ["N", 4], "a": ["N", 4]},
        {"t": ["N", 4], "o": ["N", 4]},
    )
    scan = helper.make_node("Scan", ["x", "as"], ["last", "all"], body=body, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1])
    whole = model([scan], {"x": ["N", 4], "as": ["N", "H", 4]}, {"last": ["N", 4], "all": ["N", "H", 4]}, {"w": (4, 4)})
    assert count(whole, {"N": 5, "H": 7}).total == 7 * 2 * 5 * 4 * 4


@pytest.mark.parametrize("name", ["push", "push-vit"])
def test_a_shipped_bundle_counts_as_torch_counts_its_networks(name):
    folder = find_shared(f"models/{name}")
    manifest = read_manifest(folder)
    frames = np.random.default_rng(0).integers(0, 256, (4, *manifest.frame), dtype=np.uint8)
    same = untrained(manifest, frames)
    context = Context(
        np.zeros((6, manifest.history, manifest.latent_dim), np.float32), np.zeros((6, manifest.history - 1, manifest.action_dim), np.float32)
    )
    # inference_mode would hide the operations from the counter.
    with FlopCounterMode(display=False) as rolled, torch.no_grad():
        same._jepa.rollout(*map(torch.from_numpy, (context.latents, context.actions, np.zeros((6, 5, manifest.action_dim), np.float32))))
    assert count_file(folder / "rollout.onnx", {"N": 6, "H": 5}).total == rolled.get_total_flops()
    with FlopCounterMode(display=False) as seen, torch.no_grad():
        same._jepa.encode(torch.from_numpy(frames))
    found = count_file(folder / "encoder.onnx", {"N": 4}).total
    # An export may do some of it once and for all: what depends on no frame.
    assert 0.97 * seen.get_total_flops() <= found <= 1.03 * seen.get_total_flops()


def test_a_counted_model_does_what_the_model_does_and_adds_up():
    plain = OnnxModel(find_shared("models/push"))
    counted = CountedModel(plain)
    frames = np.random.default_rng(1).integers(0, 256, (2, *plain.manifest.frame), dtype=np.uint8)
    latents = counted.encode(frames)
    assert np.array_equal(latents, plain.encode(frames))
    assert np.array_equal(counted.distance(latents, latents[0]), plain.distance(latents, latents[0]))
    at = Path(plain.directory)
    assert counted.flop == count_file(at / "encoder.onnx", {"N": 2}).total + count_file(at / "heads.onnx", {"N": 2}).total
