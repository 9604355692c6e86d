"""LitServe: one API for all models, in as many worker processes as there are cores.

python litserve_server.py MODELS PORT
"""

import os
import sys

import litserve
import numpy as np
from onnx_models import answer, sessions


class Api(litserve.LitAPI):
    """Takes {"model": name, "x": numbers}."""

    def setup(self, device):
        """Open the models."""
        self.models = sessions(sys.argv[1])

    def decode_request(self, request):
        """Read JSON."""
        return request["model"], np.asarray(request["x"], dtype=np.float32)[None]

    def predict(self, given):
        """Run one request."""
        return answer(self.models[given[0]], given[1])

    def encode_response(self, output):
        """Write JSON."""
        return {"y": output[0].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=os.cpu_count() or 1)
    server.run(
        port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False, log_level="warning"
    )
