"""`OnnxModel` by the name under which a bundle has always been opened; `world_model.runtimes` holds it, and what else can run one."""

from world_model.runtimes.onnx_model import OnnxModel

__all__ = ["OnnxModel"]
