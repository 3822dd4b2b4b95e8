"""What TensorRT's ONNX parser supports, by version: onnx/onnx-tensorrt, docs/operators.md, Apache-2.0. Each file names its source."""
