"""The gRPC protocol: methods of GRPCInferenceService, and of gRPC's own health check."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fusec.server.caller import Caller
from fusec.server.describing import (
    model_config,
    model_metadata,
    model_statistics,
    need_ready,
    server_metadata,
)
from fusec.server.errors import Fault, ServerError, as_server_error
from fusec.server.foreign import log_message, trace_message
from fusec.server.frontdoor import FrontDoor
from fusec.server.grpccodec import read_infer_message, write_infer_message
from fusec.server.grpctypes import SERVICE, types

__all__ = ["start_grpc"]

Method = Callable[[Any, Any], Awaitable[dict[str, Any] | Any]]

_HEALTH = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = 1, 2
_AT_ONCE = 64
"""Requests of one stream that may wait or run; a stream is read no further meanwhile."""


async def start_grpc(door: FrontDoor, address: str) -> tuple[Any, int]:
    """Start a server.

    Args:
        door: to what.
        address: host and port; port 0 for any.

    Returns:
        The server, and its port.

    Raises:
        RuntimeError: the address is taken.
    """
    import grpc

    limit = door.limits.body_bytes
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    made = types()
    handlers: dict[str, Any] = {}
    for name, method in _methods(door).items():
        handlers[name] = grpc.unary_unary_rpc_method_handler(
            _guarded(door, method, made[f"{name}Response"]),
            request_deserializer=_reader(made[f"{name}Request"]),
            response_serializer=lambda message: message.SerializeToString(),
        )
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        _stream(door),
        request_deserializer=_reader(made["ModelInferRequest"]),
        response_serializer=lambda message: message.SerializeToString(),
    )
    health = grpc.unary_unary_rpc_method_handler(
        _guarded(door, _health(door), made["HealthCheckResponse"]),
        request_deserializer=_reader(made["HealthCheckRequest"]),
        response_serializer=lambda message: message.SerializeToString(),
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler(_HEALTH, {"Check": health}),
        )
    )
    port = server.add_insecure_port(address)
    if not port:
        raise RuntimeError(f"cannot listen on {address}")
    await server.start()
    return server, port


def _methods(door: FrontDoor) -> dict[str, Method]:
    """Give all methods of one request and one answer: an answer is a message, or data for one."""
    table = door.table

    async def infer(request: Any, context: Any) -> Any:
        read = read_infer_message(request, door.limits)
        response, _ = await door.service.infer(
            request.model_name,
            request.model_version,
            read,
            deadline_ms=_left_ms(context),
            caller=door.callers.of_grpc(context),
        )
        return write_infer_message(response, read.binary, types()["ModelInferResponse"])

    async def live(request: Any, context: Any) -> Any:
        return {"live": True}

    async def ready(request: Any, context: Any) -> Any:
        return {"ready": door.ready}

    async def model_ready(request: Any, context: Any) -> Any:
        try:
            need_ready(table, request.name, request.version)
        except ServerError:
            return {"ready": False}
        return {"ready": True}

    async def metadata(request: Any, context: Any) -> Any:
        return server_metadata()

    async def model(request: Any, context: Any) -> Any:
        return model_metadata(*table.find(request.name, request.version))

    async def config(request: Any, context: Any) -> Any:
        return {"config": model_config(*table.find(request.name, request.version))}

    async def statistics(request: Any, context: Any) -> Any:
        return model_statistics(table, request.name or None, request.version)

    async def index(request: Any, context: Any) -> Any:
        return {"models": await door.index(ready=request.ready)}

    async def load(request: Any, context: Any) -> Any:
        parameters = {}
        for key, value in request.parameters.items():
            kind = value.WhichOneof("value")
            parameters[key] = None if kind is None else getattr(value, kind)
        await door.load(request.model_name, parameters)
        return {}

    async def unload(request: Any, context: Any) -> Any:
        await door.unload(request.model_name)
        return {}

    async def no_regions(request: Any, context: Any) -> Any:
        return {}

    async def trace(request: Any, context: Any) -> Any:
        return {"settings": trace_message(request.settings)}

    async def log(request: Any, context: Any) -> Any:
        return {"settings": log_message(request.settings)}

    return {
        "ServerLive": live,
        "ServerReady": ready,
        "ModelReady": model_ready,
        "ServerMetadata": metadata,
        "ModelMetadata": model,
        "ModelInfer": infer,
        "ModelConfig": config,
        "ModelStatistics": statistics,
        "RepositoryIndex": index,
        "RepositoryModelLoad": load,
        "RepositoryModelUnload": unload,
        "SystemSharedMemoryStatus": no_regions,
        "CudaSharedMemoryStatus": no_regions,
        "TraceSetting": trace,
        "LogSettings": log,
    }


def _reader(make: Any) -> Callable[[bytes], Any]:
    """Read messages; one that is none is no fault of ours, which gRPC itself would make of it."""
    from google.protobuf.message import DecodeError

    def read(data: bytes) -> Any:
        try:
            return make.FromString(data)
        except DecodeError as e:
            return ServerError(f"the message is no {make.DESCRIPTOR.name}: {e}")

    return read


def _readable(request: Any) -> Any:
    if isinstance(request, ServerError):
        raise request
    return request


def _guarded(door: FrontDoor, method: Method, make: Any) -> Method:
    """Turn data into a message, and errors into a status."""
    from google.protobuf import json_format
    from grpc import StatusCode

    async def call(request: Any, context: Any) -> Any:
        try:
            answer = await method(_readable(request), context)
        except Exception as e:  # noqa: BLE001  (whoever asked is told)
            told = as_server_error(e)
            if told.fault is Fault.INTERNAL:
                door.say(f"gRPC: {told}")
            await context.abort(StatusCode[told.fault.grpc], str(told))
        return json_format.ParseDict(answer, make()) if isinstance(answer, dict) else answer

    return call


def _health(door: FrontDoor) -> Method:
    async def check(request: Any, context: Any) -> Any:
        return {"status": _SERVING if door.ready else _NOT_SERVING}

    return check


def _left_ms(context: Any) -> float | None:
    """Give the time until a client gives its call up."""
    left_s = context.time_remaining()
    return None if left_s is None else max(left_s * 1000, 0.001)


def _stream(door: FrontDoor) -> Callable[[Any, Any], AsyncIterator[Any]]:
    """Answer a stream of requests: many at a time, in order; errors are messages, as in Triton."""
    made = types()

    async def answer(request: Any, context: Any, caller: Caller) -> Any:
        try:
            read = read_infer_message(_readable(request), door.limits)
            response, _ = await door.service.infer(
                request.model_name,
                request.model_version,
                read,
                deadline_ms=_left_ms(context),
                caller=caller,
            )
            message = write_infer_message(response, read.binary, made["ModelInferResponse"])
            message.parameters["triton_final_response"].bool_param = True
            return made["ModelStreamInferResponse"](infer_response=message)
        except Exception as e:  # noqa: BLE001  (whoever asked is told, the stream goes on)
            return made["ModelStreamInferResponse"](error_message=str(as_server_error(e)))

    async def stream(requests: Any, context: Any) -> AsyncIterator[Any]:
        caller, room = door.callers.of_grpc(context), asyncio.Semaphore(_AT_ONCE)
        begun: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()

        async def begin() -> None:
            try:
                async for request in requests:
                    await room.acquire()
                    begun.put_nowait(asyncio.ensure_future(answer(request, context, caller)))
            finally:
                begun.put_nowait(None)

        beginning = asyncio.ensure_future(begin())
        try:
            while (task := await begun.get()) is not None:
                yield await task
                room.release()
            await beginning
        finally:
            beginning.cancel()
            while not begun.empty():
                if (task := begun.get_nowait()) is not None:
                    task.cancel()

    return stream
