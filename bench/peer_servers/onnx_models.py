"""What all peers compute with: a session of ONNX Runtime per model, one thread each."""

import os

import numpy as np
import onnxruntime


def session(path: str) -> onnxruntime.InferenceSession:
    """Open a model; its calls run on the thread that makes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def sessions(folder: str) -> dict[str, onnxruntime.InferenceSession]:
    """Open all models of a folder, by name."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".onnx"))
    return {name[:-5]: session(os.path.join(folder, name)) for name in names}


def answer(opened: onnxruntime.InferenceSession, x: np.ndarray) -> np.ndarray:
    """Run a model of one input and one output."""
    return opened.run(None, {opened.get_inputs()[0].name: x})[0]
