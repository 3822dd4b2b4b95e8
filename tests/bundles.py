"""A small untrained bundle, for tests of what runs around a model."""

from dataclasses import asdict
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from arm_model import load_arm
from sim.tasks import task_named
from world_model.bundle import Manifest, write_manifest

LATENT_DIM, HISTORY, COMPONENTS = 8, 3, 2
_F, _U8 = TensorProto.FLOAT, TensorProto.UINT8


def _save(file: Path, nodes: list, inputs: dict, outputs: dict, constants: dict | None = None) -> None:
    values = [[helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in group.items()] for group in (inputs, outputs)]
    tensors = [helper.make_tensor(name, kind, (len(data),), data) for name, (kind, data) in (constants or {}).items()]
    graph = helper.make_graph(nodes, file.stem, *values, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))


def write_bundle(folder: Path, task: str = "reach", proprioception: bool = False) -> Path:
    """A bundle whose latent is the mean brightness, eight times; its predictor says that nothing changes, its actor that nothing should.

    With ``proprioception`` the latent is the mean brightness and the seven joints, -9 where they are unknown.
    """
    asked = task_named(task)
    actions, frame = asked.tool_step.action_dim, (asked.camera.height, asked.camera.width, 3)
    d, node = LATENT_DIM, helper.make_node
    folder.mkdir(parents=True)
    brightness = [
        node("Cast", ["frames"], ["f"], to=_F),
        node("ReduceMean", ["f"], ["m"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["m", "one"], ["m1"]),
    ]
    joints = [node("IsNaN", ["joints"], ["u"]), node("Where", ["u", "none", "joints"], ["j"]), node("Concat", ["m1", "j"], ["latents"], axis=1)]
    _save(
        folder / "encoder.onnx",
        brightness + (joints if proprioception else [node("Tile", ["m1", "repeats"], ["latents"])]),
        {"frames": (_U8, ["B", *frame])} | ({"joints": (_F, ["B", d - 1])} if proprioception else {}),
        {"latents": (_F, ["B", d])},
        {"one": (TensorProto.INT64, [1]), "repeats": (TensorProto.INT64, [1, d]), "none": (_F, [-9.0])},
    )
    _save(
        folder / "rollout.onnx",
        [
            node("ReduceSum", ["actions", "last"], ["s"], keepdims=1),
            node("Mul", ["s", "zero"], ["z"]),
            node("ReduceMean", ["past_actions"], ["p"], axes=[1, 2], keepdims=1),
            node("Mul", ["p", "zero"], ["zp"]),
            node("Slice", ["latents", "start", "stop", "axis"], ["newest"]),
            node("Add", ["newest", "z"], ["r"]),
            node("Add", ["r", "zp"], ["imagined"]),
        ],
        {"latents": (_F, ["N", HISTORY, d]), "past_actions": (_F, ["N", HISTORY - 1, actions]), "actions": (_F, ["N", "H", actions])},
        {"imagined": (_F, ["N", "H", d])},
        {
            "last": (TensorProto.INT64, [2]),
            "zero": (_F, [0.0]),
            "start": (TensorProto.INT64, [HISTORY - 1]),
            "stop": (TensorProto.INT64, [HISTORY]),
            "axis": (TensorProto.INT64, [1]),
        },
    )
    _save(
        folder / "heads.onnx",
        [node("Sub", ["latents", "goal"], ["e"]), node("ReduceL2", ["e"], ["distance"], axes=[1], keepdims=0)],
        {"latents": (_F, ["N", d]), "goal": (_F, [d])},
        {"distance": (_F, ["N"])},
    )
    repeats = COMPONENTS * actions
    _save(
        folder / "actor.onnx",
        [
            node("Sub", ["latents", "goal"], ["e"]),
            node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=1),
            node("Unsqueeze", ["steps_left", "one"], ["s"]),
            node("Add", ["m", "s"], ["a"]),
            node("Mul", ["a", "zero"], ["z"]),
            node("Tile", ["z", "modes"], ["logits"]),
            node("Tile", ["z", "values"], ["flat"]),
            node("Reshape", ["flat", "shape"], ["mean"]),
            node("Add", ["mean", "half"], ["std"]),
        ],
        {"latents": (_F, ["N", d]), "goal": (_F, [d]), "steps_left": (_F, ["N"])},
        {"logits": (_F, ["N", COMPONENTS]), "mean": (_F, ["N", COMPONENTS, actions]), "std": (_F, ["N", COMPONENTS, actions])},
        {
            "one": (TensorProto.INT64, [1]),
            "zero": (_F, [0.0]),
            "half": (_F, [0.5]),
            "modes": (TensorProto.INT64, [1, COMPONENTS]),
            "values": (TensorProto.INT64, [1, repeats]),
            "shape": (TensorProto.INT64, [-1, COMPONENTS, actions]),
        },
    )
    (folder / "weights.safetensors").write_bytes(b"")
    manifest = Manifest(
        name=f"untrained-{task}",
        tasks=(task,),
        tool_step=asdict(asked.tool_step),
        frame=frame,
        latent_dim=d,
        action_dim=actions,
        history=HISTORY,
        actor_steps=(1, 20),
        joints=load_arm().joints,
        encoder="mean",
        normalisation="none",
        proprioception=d - 1 if proprioception else 0,
    )
    write_manifest(folder, manifest)
    return folder
