"""A model of Triton's Python backend: a session of ONNX Runtime; requests of a batch run as one."""

import os
import sys

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from onnx_models import answer, session


class TritonPythonModel:
    """Loads model.onnx beside it."""

    def initialize(self, args):
        """Open the model."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.session = session(os.path.join(folder, "model.onnx"))

    def execute(self, requests):
        """Run requests that Triton batched."""
        xs = [pb_utils.get_input_tensor_by_name(r, "input").as_numpy() for r in requests]
        ys = np.split(
            answer(self.session, np.concatenate(xs)), np.cumsum([len(x) for x in xs])[:-1]
        )
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("output", y)]) for y in ys
        ]
