"""ONNX graphs: writing them from a model, and running them without PyTorch."""
