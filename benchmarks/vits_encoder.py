"""DINOv2 ViT-S/14 at 224 px on one CPU core, in floats and in 8 bits, in turn with this machine's own limit: ``python benchmarks/vits_encoder.py``.

The architecture is the published one, its weights are random (no pretrained ones can be had here): every matrix keeps the size of what goes through,
layer scale is 0.2 to 0.3, so that attention and MLPs all count, and pictures are smooth noise. Time does not depend on weights. Cosines do: real
activations have outliers, which 8 bits dislike, and real features carry more redundancy, which they like; gate a real encoder on its own cosine
(``latent-mpc export``). ``roof``: the fastest product of matrices that ONNX Runtime or oneDNN does here, of the encoder's own shapes or 1024 cubed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from less_arithmetic import interleaved
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import Tensor, nn
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model

from world_model.graphs import to_onnx
from world_model.lean.int8 import quantised
from world_model.lean.lewm import session_options
from world_model.lean.vit import LeanDinoV2

SIZE, PATCH, WIDTH, DEPTH, HEADS = 224, 14, 384, 12, 6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOKENS = 1 + (SIZE // PATCH) ** 2
SHAPES = ((1024, 1024, 1024), (TOKENS, WIDTH, 4 * WIDTH), (TOKENS, 4 * WIDTH, WIDTH), (TOKENS, WIDTH, WIDTH))


PIXELS = ("enter.matrix",)


def gflop() -> float:
    """Of one picture: 2 per multiply-add of every matrix product."""
    layer = TOKENS * WIDTH * WIDTH * 12 + 2 * TOKENS * TOKENS * WIDTH
    return 2e-9 * (DEPTH * layer + (TOKENS - 1) * 3 * PATCH * PATCH * WIDTH)


def untrained(depth: int = DEPTH, seed: int = 0) -> Any:
    """``Dinov2Model`` in whose random weights every operation counts."""
    torch.manual_seed(seed)
    config = Dinov2Config(image_size=518, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=depth, num_attention_heads=HEADS, mlp_ratio=4)
    model = Dinov2Model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "position" in name:
                parameter.normal_(0, 0.3)
            elif parameter.dim() >= 2:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif "lambda" in name:
                parameter.uniform_(0.2, 0.3)
            elif "norm" in name and name.endswith("weight"):
                parameter.normal_(1, 0.2)
            else:
                parameter.normal_(0, 0.1)
    return model


def pictures(count: int, seed: int) -> np.ndarray[Any, Any]:
    """Smooth noise ``(count, 224, 224, 3) uint8``."""
    rng, made = np.random.default_rng(seed), torch.zeros(count, 3, SIZE, SIZE)
    for side in (4, 8, 16, 56):
        noise = torch.from_numpy(rng.standard_normal((count, 3, side, side), np.float32))
        made += functional.interpolate(noise, size=(SIZE, SIZE), mode="bilinear")
    low, high = made.amin((1, 2, 3), keepdim=True), made.amax((1, 2, 3), keepdim=True)
    return ((made - low) / (high - low) * 255).byte().permute(0, 2, 3, 1).numpy()


class AsPublished(nn.Module):
    """transformers' own model behind the same normalisation."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> Tensor:
        """Tokens ``(1, T, W)`` of ``frames (1, 224, 224, 3) uint8``."""
        values = (frames.permute(0, 3, 1, 2).float() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
        tokens: Tensor = self.model(pixel_values=values).last_hidden_state
        return tokens


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, frames: np.ndarray[Any, Any]) -> None:
        self._left = iter(frames)

    def get_next(self) -> dict[str, Any] | None:
        """One picture, or None after the last."""
        frame = next(self._left, None)
        return None if frame is None else {"frames": frame[None]}


def static(model: Any) -> Any:
    """The same graph with scales of activations that were calibrated once."""
    kept = [node.name for node in model.graph.node if set(node.input) & set(PIXELS)]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        onnx.save(model, source)
        kinds = {"weight_type": QuantType.QInt8, "activation_type": QuantType.QUInt8}
        quantize_static(
            source, target, _Calibration(pictures(6, 100)), nodes_to_exclude=kept, op_types_to_quantize=["MatMul"], per_channel=True, **kinds
        )
        return onnx.load(target)


def session(model: Any, profile: str = "") -> Any:
    """A session of one thread."""
    options = session_options(1)
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def roofs() -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """Products of matrices by name, and how many operations each has."""
    products: dict[str, Callable[[], Any]] = {}
    operations: dict[str, int] = {}
    rng = np.random.default_rng(0)
    for rows, inner, columns in SHAPES:
        shape = f"{rows}x{inner}x{columns}"
        left, right = torch.randn(rows, inner), torch.randn(inner, columns)
        products[f"fp32 torch {shape}"] = lambda left=left, right=right: left @ right  # type: ignore[misc]
        small, weights = rng.integers(0, 255, (rows, inner), np.uint8), rng.integers(-100, 100, (inner, columns), np.int8)
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
            "roof",
            [helper.make_tensor_value_info("a", TensorProto.UINT8, [rows, inner])],
            [helper.make_tensor_value_info("c", TensorProto.INT32, [rows, columns])],
            [numpy_helper.from_array(weights, "b")],
        )
        runner = session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
        products[f"int8 ONNX Runtime {shape}"] = lambda runner=runner, small=small: runner.run(None, {"a": small})  # type: ignore[misc]
        if "onednn" in torch.backends.quantized.supported_engines:
            torch.backends.quantized.engine = "onednn"
            packed = torch.ops.quantized.linear_prepack(torch.quantize_per_tensor(torch.randn(columns, inner), 0.02, 0, torch.qint8), None)
            held = torch.quantize_per_tensor(left, 0.02, 128, torch.quint8)
            products[f"int8 oneDNN {shape}"] = lambda held=held, packed=packed: torch.ops.quantized.linear(held, packed, 0.1, 128)  # type: ignore[misc]
        operations |= {name: 2 * rows * inner * columns for name in products if name.endswith(shape)}
    return products, operations


def shares(model: Any, frame: Any, runs: int = 4) -> dict[str, float]:
    """Wall ms of each kind of operation, by ONNX Runtime's profiler."""
    with tempfile.TemporaryDirectory() as folder:
        runner = session(model, f"{folder}/profile")
        for _ in range(runs):
            runner.run(None, {"frames": frame})
        events = json.loads(Path(runner.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 1e3 / runs
    return {name: round(value, 2) for name, value in spent.most_common(8)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, frame = untrained(), pictures(1, 0)
    example = torch.from_numpy(frame)
    published = to_onnx(AsPublished(model), (example,), {"frames": {}}, ["tokens"])
    folded = to_onnx(LeanDinoV2(model, SIZE, MEAN, STD), (example,), {"frames": {}}, ["tokens"])
    logistic = to_onnx(LeanDinoV2(model, SIZE, MEAN, STD, logistic_gelu=True), (example,), {"frames": {}}, ["tokens"])
    graphs = {
        "fp32, as published": published,
        "fp32, folded": folded,
        "int8 dynamic, as published": quantised(published),
        "int8 dynamic, folded": quantised(folded, keep=PIXELS),
        "int8 dynamic, folded, attention too": quantised(folded, attention=True, keep=PIXELS),
        "int8 dynamic, folded, attention too, logistic GELU": quantised(logistic, attention=True, keep=PIXELS),
        "int8 static, folded": static(folded),
    }
    contenders: dict[str, Callable[[], Any]] = {}
    for name, graph in graphs.items():
        runner = session(graph)
        contenders[name] = lambda runner=runner: runner.run(None, {"frames": frame})[0]  # type: ignore[misc]
    products, operations = roofs()
    found = {name: run() for name, run in contenders.items()}
    seconds = interleaved(contenders | products, asked.rounds)
    rates = {name: operations[name] / float(np.min(seconds[name])) / 1e9 for name in products}
    roof = {kind: max(rate for name, rate in rates.items() if name.startswith(kind)) for kind in ("fp32", "int8")}
    bound = 1e3 * gflop() / roof["int8"]
    print(f"one core: fp32 {roof['fp32']:.0f} GFLOP/s, int8 {roof['int8']:.0f} GOP/s; {gflop():.2f} GFLOP a picture: int8 roof {bound:.1f} ms")
    rows: dict[str, Any] = {}
    truth = found["fp32, as published"][0]
    for name, (tokens,) in found.items():
        cosine = (tokens * truth).sum(-1) / np.linalg.norm(tokens, axis=-1) / np.linalg.norm(truth, axis=-1)
        least = 1e3 * float(np.min(seconds[name]))
        rows[name] = {
            "cpu_ms": round(1e3 * float(np.median(seconds[name])), 1),
            "least_ms": round(least, 1),
            "times_int8_roof": round(least / bound, 2),
            "cosine_mean": round(float(cosine.mean()), 5),
            "cosine_least": round(float(cosine.min()), 5),
        }
        print(f"  {name:51s} {json.dumps(rows[name])}")
    best = min(rows, key=lambda name: rows[name]["least_ms"])
    spent = shares(graphs[best], frame)
    print(f"  {best}, wall ms by operation: {json.dumps(spent)}")
    if asked.json:
        report = {"gflop": gflop(), "roof": roof, "products": rates, "int8_roof_ms": bound, "contenders": rows, "operations_ms": {best: spent}}
        asked.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
