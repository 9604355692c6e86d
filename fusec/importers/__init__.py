"""Importers: every source of a model (PyTorch, ONNX) becomes one Program."""
