"""Ray Serve: one deployment for all models, as many replicas as cores.

python ray_server.py MODELS PORT
"""

import os
import sys
import time

import numpy as np
import ray
from onnx_models import answer, sessions
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

CORES = os.cpu_count() or 1


@serve.deployment(num_replicas=CORES, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=64)
class Models:
    """Takes {"model": name, "x": numbers}."""

    def __init__(self, folder: str) -> None:
        self.models = sessions(folder)

    async def __call__(self, request: Request) -> JSONResponse:
        """Run one request."""
        given = await request.json()
        y = answer(self.models[given["model"]], np.asarray(given["x"], dtype=np.float32)[None])
        return JSONResponse({"y": y[0].tolist()})


if __name__ == "__main__":
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Models.options(logging_config={"enable_access_log": False}).bind(sys.argv[1]))
    while True:
        time.sleep(3600)
