"""KServe's own clients making every call that they have, in a process of its own.

Their generated messages have the names of those of Triton's client, and one process takes only
one of the two. Run with the addresses of a server that has the model "plain" of a fake store.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def request(**how: Any) -> Any:
    """Make an infer request; `binary` says how its data is sent."""
    from kserve import InferInput, InferRequest

    binary = how.pop("binary")
    given = InferInput("x", [2, 4], "FP32")
    given.set_data_from_numpy(X, binary_data=binary)
    return InferRequest("plain", [given], request_id="7", **how)


def requests() -> dict[str, Any]:
    """Make one of each kind."""
    from kserve.protocol.infer_type import RequestedOutput

    wanted = [RequestedOutput("y"), RequestedOutput("n")]
    raw = [RequestedOutput("y", {"binary_data": True}), RequestedOutput("n")]
    return {
        "numbers": request(binary=False),
        "raw": request(binary=True),
        "raw both ways": request(binary=True, parameters={"binary_data_output": True}),
        "wanted": request(binary=False, request_outputs=wanted),
        "wanted raw": request(binary=True, request_outputs=raw),
        "parameters": request(binary=False, parameters={"priority": 1, "tenant": "ann"}),
    }


def check(answer: Any) -> None:
    """Check an answer as its client decodes it."""
    found = {output.name: output.as_numpy() for output in answer.outputs}
    assert np.array_equal(found["y"], X * 2), found
    assert found["n"].tolist() == [0, 1], found
    assert answer.id == "7", answer
    assert answer.model_name == "plain", answer


async def rest(address: str, record: dict[str, Any]) -> None:
    """Call everything over REST."""
    import httpx
    from kserve import InferenceRESTClient
    from kserve.inference_client import RESTConfig

    class Recorder(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, asked: httpx.Request) -> httpx.Response:
            body = (await asked.aread()).decode("latin-1")
            length = asked.headers.get("inference-header-content-length")
            record[f"{asked.method} {asked.url.path} {length or ''} {len(record)}"] = body
            return await super().handle_async_request(asked)

    client = InferenceRESTClient(RESTConfig(protocol="v2", transport=Recorder()))
    url = f"http://{address}"
    assert await client.is_server_live(url) is True
    assert await client.is_server_ready(url) is True
    assert await client.is_model_ready(url, "plain") is True
    assert await client.is_model_ready(url, "nope") is False
    for each in requests().values():
        check(await client.infer(url, each, model_name="plain"))
    try:
        await client.infer(url, request(binary=False), model_name="nope")
    except httpx.HTTPStatusError as e:
        assert e.response.status_code == 404
        assert "'nope' is not found, '404 Not Found'" in str(e)
    else:
        raise AssertionError("a model that is not there answers")
    await client.close()


async def grpc(address: str, record: dict[str, Any]) -> None:
    """Call everything over gRPC."""
    import grpc as library
    from kserve import InferenceGRPCClient

    client = InferenceGRPCClient(address)
    assert await client.is_server_live() is True
    assert await client.is_server_ready() is True
    assert await client.is_model_ready("plain") is True
    assert await client.is_model_ready("nope") is False
    for name, each in requests().items():
        record[f"grpc {name}"] = each.to_grpc().SerializeToString(deterministic=True).hex()
        check(await client.infer(each, headers=[("x-request", "1")]))
    other = request(binary=False)
    other.model_name = "nope"
    try:
        await client.infer(other)
    except library.RpcError as e:
        assert e.code() is library.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    else:
        raise AssertionError("a model that is not there answers")
    await client.close()


async def main(http_address: str, grpc_address: str) -> None:
    """Call everything, then print what was sent."""
    import logging

    import kserve  # noqa: F401

    logging.disable()  # they print the failures that are asked for here
    record: dict[str, Any] = {}
    await rest(http_address, record)
    await grpc(grpc_address, record)
    print(json.dumps(record))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
