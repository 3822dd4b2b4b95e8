"""TensorRT ahead of time: whether its ONNX parser takes a bundle's graphs, and engines built from them that are gated on what they compute."""
