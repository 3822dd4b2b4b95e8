"""The weights of a LeWorldModel as its authors name them (arXiv 2603.19312; stable-worldmodel 0.1.1, wm/lewm), and what shape they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_OF_NO_CONCERN = ("encoder.", "projector.", "decoder.", "sigreg.", "model.encoder.")
_LAYER = "predictor.transformer.layers.{}."


class LewmWeightsError(ValueError):
    """Weights that are not those of a LeWorldModel's predictor, with the reason in one line."""


@dataclass(frozen=True)
class LewmShape:
    """Shape of a LeWorldModel without its picture encoder; the default is the published one: 10.8 M parameters in the predictor.

    ``width`` D is that of latents, conditions and tokens; ``frames`` L the longest window; attention has ``heads`` of ``head_width``; ``mlp`` and
    ``projection`` are the hidden widths of the blocks' MLPs and of the MLP that turns a token into a latent (0: none); ``action_dim`` A counts the
    numbers of one planner's step (frame skip 5 times 2), ``smoothed`` and ``action_mlp`` the widths inside the action encoder.
    """

    width: int = 192
    frames: int = 3
    depth: int = 6
    heads: int = 16
    head_width: int = 64
    mlp: int = 2048
    projection: int = 2048
    action_dim: int = 10
    smoothed: int = 10
    action_mlp: int = 768

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width

    def expected(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by name."""
        width, inner, mlp = self.width, self.inner, self.mlp
        shapes: dict[str, tuple[int, ...]] = {
            "predictor.pos_embedding": (1, self.frames, width),
            "predictor.transformer.norm.weight": (width,),
            "predictor.transformer.norm.bias": (width,),
            "action_encoder.patch_embed.weight": (self.smoothed, self.action_dim, 1),
            "action_encoder.patch_embed.bias": (self.smoothed,),
            "action_encoder.embed.0.weight": (self.action_mlp, self.smoothed),
            "action_encoder.embed.0.bias": (self.action_mlp,),
            "action_encoder.embed.2.weight": (width, self.action_mlp),
            "action_encoder.embed.2.bias": (width,),
        }
        for layer in range(self.depth):
            prefix = _LAYER.format(layer)
            for key, shape in {
                "attn.norm.weight": (width,),
                "attn.norm.bias": (width,),
                "attn.to_qkv.weight": (3 * inner, width),
                "attn.to_out.0.weight": (width, inner),
                "attn.to_out.0.bias": (width,),
                "mlp.net.0.weight": (width,),
                "mlp.net.0.bias": (width,),
                "mlp.net.1.weight": (mlp, width),
                "mlp.net.1.bias": (mlp,),
                "mlp.net.4.weight": (width, mlp),
                "mlp.net.4.bias": (width,),
                "adaLN_modulation.1.weight": (6 * width, width),
                "adaLN_modulation.1.bias": (6 * width,),
            }.items():
                shapes[prefix + key] = shape
        if self.projection:
            hidden = self.projection
            shapes |= {"pred_proj.net.0.weight": (hidden, width), "pred_proj.net.0.bias": (hidden,)}
            shapes |= {f"pred_proj.net.1.{key}": (hidden,) for key in ("weight", "bias", "running_mean", "running_var")}
            shapes |= {"pred_proj.net.3.weight": (width, hidden), "pred_proj.net.3.bias": (width,)}
        return shapes


def shape_of(weights: Mapping[str, Tensor], head_width: int = 64) -> LewmShape:
    """The shape that ``weights`` have, all of them checked; picture encoder and projector are overlooked.

    ``head_width`` cannot be seen in weights: 64 in every published model.

    Raises:
        LewmWeightsError: a tensor is missing, unknown, not finite or of another shape.
    """
    held = {name: tuple(value.shape) for name, value in weights.items() if not name.startswith(_OF_NO_CONCERN)}
    held.pop("pred_proj.net.1.num_batches_tracked", None)

    def of(name: str, rank: int) -> tuple[int, ...]:
        if len(held.get(name, ())) != rank:
            raise LewmWeightsError(f"no LeWorldModel: {name} is {_said(held.get(name))}, must have {rank} dimensions; give the state dict of LeWM")
        return held[name]

    _, frames, width = of("predictor.pos_embedding", 3)
    depth = len({name.split(".")[3] for name in held if name.startswith(_LAYER.format("")[:-1])})
    if depth < 1:
        raise LewmWeightsError("no LeWorldModel: there are no predictor.transformer.layers; give the state dict of LeWM")
    inner = of(_LAYER.format(0) + "attn.to_out.0.weight", 2)[1]
    if inner % head_width:
        raise LewmWeightsError(f"the heads are {inner} wide together, which is no multiple of head_width {head_width}; say how wide one is")
    smoothed, action_dim, _ = of("action_encoder.patch_embed.weight", 3)
    shape = LewmShape(
        width=width,
        frames=frames,
        depth=depth,
        heads=inner // head_width,
        head_width=head_width,
        mlp=of(_LAYER.format(0) + "mlp.net.1.weight", 2)[0],
        projection=of("pred_proj.net.0.weight", 2)[0] if "pred_proj.net.0.weight" in held else 0,
        action_dim=action_dim,
        smoothed=smoothed,
        action_mlp=of("action_encoder.embed.0.weight", 2)[0],
    )
    expected = shape.expected()
    for name in sorted(held.keys() | expected.keys()):
        if held.get(name) != expected.get(name):
            raise LewmWeightsError(f"{name} is {_said(held.get(name))}, must be {_said(expected.get(name))}; only published LeWorldModels can be run")
        if not torch.isfinite(weights[name]).all():
            raise LewmWeightsError(f"{name} holds numbers that are not finite; the checkpoint is damaged")
    return shape


def random_lewm_weights(shape: LewmShape, seed: int) -> dict[str, Tensor]:
    """Weights of that shape as training leaves them in size, not in meaning: every gate is open, so that each operation counts in the result."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, size in shape.expected().items():
        noise = torch.randn(size, generator=generator)
        if name.endswith("running_var"):
            weights[name] = 1 + 0.2 * noise.abs()
        elif name.endswith(("norm.weight", "net.0.weight", "net.1.weight")) and len(size) == 1:
            weights[name] = 1 + 0.1 * noise
        elif len(size) == 1:
            weights[name] = 0.1 * noise
        elif name.endswith("pos_embedding"):
            weights[name] = noise
        else:
            weights[name] = noise / size[1] ** 0.5
    return weights


def _said(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {shape}"
