"""Weights and training state on disk, as safetensors and JSON: no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint that is damaged or belongs to another configuration."""


def save_checkpoint(
    file: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None, extra: dict[str, Tensor], meta: dict[str, Any]
) -> None:
    """Write modules, optimiser and further tensors into one file, whole or not at all."""
    tensors = {f"{name}/{key}": value.contiguous() for name, module in modules.items() for key, value in module.state_dict().items()}
    if optimizer is not None:
        state = optimizer.state_dict()["state"]
        tensors |= {f"optimizer/{index}/{key}": value for index, values in state.items() for key, value in values.items()}
    tensors |= {f"extra/{key}": value for key, value in extra.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    save_file({key: value.clone() for key, value in tensors.items()}, partial, metadata={"meta": json.dumps(meta, sort_keys=True)})
    partial.replace(file)


def read_meta(file: Path) -> dict[str, Any]:
    """The metadata alone.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            meta: dict[str, Any] = json.loads((opened.metadata() or {}).get("meta", "{}"))
            return meta
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error


def load_checkpoint(file: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore modules and optimiser in place; returns the further tensors and the metadata.

    Raises:
        CheckpointError: the file is damaged or its tensors do not fit the modules.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            meta: dict[str, Any] = json.loads((opened.metadata() or {}).get("meta", "{}"))
        for name, module in modules.items():
            module.load_state_dict({key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith(f"{name}/")})
    except (SafetensorError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{file} does not fit this configuration: {str(error).splitlines()[0]}") from error
    if optimizer is not None:
        content = optimizer.state_dict()
        content["state"] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                content["state"].setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(content)
    return {key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith("extra/")}, meta
