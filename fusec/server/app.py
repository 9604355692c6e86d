"""The REST protocol as an ASGI application; nothing between the server and the codecs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, TypeAlias, TypeVar

from fusec.server.describing import (
    model_config,
    model_metadata,
    model_statistics,
    need_ready,
    server_metadata,
)
from fusec.server.errors import Fault, ServerError, as_server_error
from fusec.server.foreign import log_settings, trace_settings
from fusec.server.frontdoor import FrontDoor
from fusec.server.httpbody import Gone, Held, Receive, read_body
from fusec.server.jsontext import dump_json, parse_json
from fusec.server.messages import InferRequest
from fusec.server.metrics import render
from fusec.server.page.page import Page
from fusec.server.restrequest import header_bytes, raw_request, read_infer
from fusec.server.restresponse import error_body, write_infer
from fusec.server.routing import Call, Route, route

__all__ = ["MetricsApp", "RestApp"]

T = TypeVar("T")
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope: TypeAlias = Mapping[str, Any]

_JSON = b"application/json"
_HTML = b"text/html; charset=utf-8"
_BINARY = b"application/octet-stream"
_HEADER = b"inference-header-content-length"
_LARGE = 256 << 10
"""Bodies from here on are read in a thread: others would wait for their JSON."""
_MANY = 1 << 14
"""Answers with so many numbers in JSON are written in a thread, too."""
_PATIENCE_S = 0.02
"""Answers that take longer are given up when the client leaves."""


class RestApp:
    """Answers HTTP requests."""

    def __init__(self, door: FrontDoor, page: Page | None) -> None:
        """Take what it is a door to, and the page that shows it to people."""
        self._door, self._page = door, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began = time.monotonic_ns()
        try:
            found = route(scope["method"], scope.get("raw_path") or scope["path"].encode())
            if found.call is Call.EVENTS:
                await self._shown().stream(scope["method"], receive, send)
                return
            with Held(self._door.budget) as held:
                status, kind, body, more = await self._answer(found, scope, receive, held, began)
                await _reply(send, status, kind, body, more)
        except Gone:
            return
        except Exception as e:  # noqa: BLE001  (whoever asked is told)
            told = as_server_error(e)
            if told.fault is Fault.INTERNAL:
                self._door.say(f"{scope['method']} {scope['path'][:200]}: {told}")
            await _reply(send, told.fault.http, _JSON, error_body(str(told)), ())

    async def _answer(
        self, found: Route, scope: Scope, receive: Receive, held: Held, began: int
    ) -> tuple[int, bytes, bytes, tuple[tuple[bytes, bytes], ...]]:
        headers = dict(scope["headers"])
        if found.call is Call.INFER:
            return await self._infer(found, headers, receive, held, began)
        body = await read_body(headers, receive, self._door.limits, held)
        if found.call is Call.PAGE:
            text, more = self._shown().html()
            return 200, _HTML, text, more
        status, value = await self._other(found, body)
        return status, _JSON, b"" if value is None else dump_json(value), ()

    async def _infer(
        self,
        found: Route,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        held: Held,
        began: int,
    ) -> tuple[int, bytes, bytes, tuple[tuple[bytes, bytes], ...]]:
        body = await read_body(headers, receive, self._door.limits, held)
        json_bytes = header_bytes(headers.get(_HEADER))
        if json_bytes == 0:
            request = self._raw(found, body)
        elif len(body) < _LARGE:
            request = read_infer(body, json_bytes, self._door.limits)
        else:
            request = await asyncio.to_thread(read_infer, body, json_bytes, self._door.limits)
        answer = self._door.service.infer(
            found.model,
            found.version,
            request,
            began_ns=began,
            caller=self._door.callers.of_http(headers),
        )
        response, wanted = await _unless_gone(answer, receive)
        binary = [w.binary for w in wanted]
        numbers = [o.array.size for o, raw in zip(response.outputs, binary, strict=True) if not raw]
        if sum(numbers) < _MANY:
            written = write_infer(response, binary)
        else:
            written = await asyncio.to_thread(write_infer, response, binary)
        if written.json_bytes is None:
            return 200, _JSON, written.body, ()
        return 200, _BINARY, written.body, ((_HEADER, b"%d" % written.json_bytes),)

    def _shown(self) -> Page:
        if self._page is None:
            raise ServerError("Not Found", Fault.NOT_FOUND)
        return self._page

    def _raw(self, found: Route, body: bytes) -> InferRequest:
        model, version = self._door.table.find(found.model, found.version)
        inputs = version.signature.inputs
        if len(inputs) != 1:
            raise ServerError(
                f"raw request for model {model.name!r}, which has {len(inputs)} inputs: only "
                "models with one input take these"
            )
        port = inputs[0]
        # With batches the first extent is 1, as Triton has it.
        shape = (1, *port.shape[1:]) if model.settings.max_batch_size else port.shape
        return raw_request(body, port.name, port.datatype, shape)

    async def _other(self, found: Route, body: bytes) -> tuple[int, Any]:
        """Answer what is no inference: a status and a value for JSON."""
        door, name, version = self._door, found.model, found.version
        match found.call:
            case Call.LIVE:
                return 200, {"live": True}
            case Call.READY:
                ready = door.ready
                return (200 if ready else 503), {"live": True, "ready": ready}
            case Call.SERVER:
                return 200, server_metadata()
            case Call.MODELS:
                return 200, {"models": sorted(door.table.models)}
            case Call.MODEL:
                return 200, model_metadata(*door.table.find(name, version))
            case Call.MODEL_READY:
                need_ready(door.table, name, version)
                return 200, {"name": name, "ready": True}
            case Call.MODEL_CONFIG:
                return 200, model_config(*door.table.find(name, version))
            case Call.STATISTICS:
                return 200, model_statistics(door.table, name or None, version)
            case Call.INDEX:
                return 200, await door.index(ready=_object(body).get("ready") is True)
            case Call.LOAD:
                parameters = _object(body).get("parameters") or {}
                if not isinstance(parameters, dict):
                    raise ServerError("'parameters' must be an object")
                await door.load(name, parameters)
                return 200, None
            case Call.UNLOAD:
                _object(body)
                await door.unload(name)
                return 200, None
            case Call.SHARED_STATUS:
                return 200, []
            case Call.TRACE:
                return 200, trace_settings(_object(body))
            case Call.LOG:
                return 200, log_settings(_object(body))
            case _:
                raise ServerError("shared memory is not supported", Fault.UNSUPPORTED)


class MetricsApp:
    """Answers Prometheus."""

    def __init__(self, door: FrontDoor) -> None:
        """Take what is measured."""
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"].rstrip("/") != "/metrics":
            await _reply(send, 404, _JSON, error_body("Not Found"), ())
            return
        text = render(self._door.table, self._door.service.store.stats())
        await _reply(send, 200, b"text/plain; version=0.0.4; charset=utf-8", text.encode(), ())


async def _unless_gone(answer: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Await an answer; give it up if the client leaves.

    Most answers are there before anybody looks whether the client is; so it costs them one timer.

    Raises:
        Gone: it left.
    """
    task = asyncio.current_task()
    assert task is not None
    watches: list[asyncio.Future[None]] = []
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = task.cancel()

    timer = asyncio.get_running_loop().call_later(
        _PATIENCE_S, lambda: watches.append(asyncio.ensure_future(watch()))
    )
    try:
        return await answer
    except asyncio.CancelledError:
        if left and not task.uncancel():
            raise Gone from None
        raise
    finally:
        timer.cancel()
        for each in watches:
            each.cancel()


def _object(body: bytes) -> dict[str, Any]:
    """Read a body that may be empty."""
    data = parse_json(body) if body.strip() else {}
    if not isinstance(data, dict):
        raise ServerError("the body must be a JSON object")
    return data


async def _reply(
    send: Send, status: int, kind: bytes, body: bytes, more: tuple[tuple[bytes, bytes], ...]
) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
