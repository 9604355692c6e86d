"""The least that an HTTP server in Python can do: uvicorn, a session per model, bytes both ways.

python uvicorn_server.py MODELS PORT
"""

import sys

import numpy as np
import uvicorn
from onnx_models import answer, sessions

MODELS = sessions(sys.argv[1])
HEADERS = [(b"content-type", b"application/octet-stream")]


async def app(scope, receive, send):
    """Answer POST /NAME with the model's output."""
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    found = MODELS[scope["path"].rpartition("/")[2]]
    x = np.frombuffer(body, dtype=np.float32).reshape(1, -1)
    data = answer(found, x).tobytes()
    length = (b"content-length", b"%d" % len(data))
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, length]})
    await send({"type": "http.response.body", "body": data})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False, lifespan="off")
