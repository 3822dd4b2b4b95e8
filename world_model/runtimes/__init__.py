"""What runs a bundle's graphs: ONNX Runtime on TensorRT, CUDA or the CPU, or torch. `open_model` chooses, and says what it chose and why."""

from world_model.runtimes.choice import GraphChoice, RuntimeChoice
from world_model.runtimes.config import PRECISIONS, RUNTIMES, RuntimeConfig, RuntimeRefusedError
from world_model.runtimes.opening import BundleModel, open_model

__all__ = ["PRECISIONS", "RUNTIMES", "BundleModel", "GraphChoice", "RuntimeChoice", "RuntimeConfig", "RuntimeRefusedError", "open_model"]
