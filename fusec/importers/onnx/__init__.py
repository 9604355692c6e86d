"""ONNX: files and protos read, interpreted over torch tensors and host values, and captured."""
