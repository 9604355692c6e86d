"""A server from its options: ports, models, doors, and an end that loses no request.

SIGTERM -> not ready, still serving -> no new connections -> requests that run -> gone
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fusec.ir.errors import ConfigError, UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.server.app import MetricsApp, RestApp
from fusec.server.caller import Callers
from fusec.server.control import Control
from fusec.server.errors import ServerError
from fusec.server.frontdoor import FrontDoor
from fusec.server.joining import joining
from fusec.server.limits import Limits
from fusec.server.loading import Loader
from fusec.server.models import Table
from fusec.server.page.page import Page
from fusec.server.repository import Repository
from fusec.server.service import Service
from fusec.server.store import Store
from fusec.server.tracing import start_spans

__all__ = ["Options", "Running", "new_loop", "running", "serve"]

_LISTEN = 2048
_KEEP_S = 620
"""Idle connections are kept so long: balancers keep theirs for up to 600 s, and what they send on
one that was just closed is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to serve."""

    repositories: Sequence[Path] = ()
    served: Sequence[str] = ()
    """Models that the store has already, as a plan file brings them."""
    control: Control = Control.NONE
    load: Sequence[str] = ()
    """Models to load at the start under explicit control; "*" for all."""
    poll_s: float = 15.0
    host: str = "127.0.0.1"
    http_port: int | None = 8000
    """None: no such door. 0: any that is free."""
    grpc_port: int | None = 8001
    metrics_port: int | None = 8002
    page: bool = True
    """Whether people find a page at `/` of the HTTP port."""
    strict: bool = True
    """Ready only if all models to be loaded at the start are."""
    exit_on_error: bool = True
    """End if one of them cannot be loaded."""
    delay_s: float = 5.0
    """Served on after a signal to end, while balancers learn of it."""
    exit_s: float = 30.0
    """Requests that run may take so long then."""
    limits: Limits = Limits()
    tenant_header: str | None = None
    """Header of HTTP, and metadata of gRPC, that names a request's tenant."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Running:
    """A server that runs."""

    door: FrontDoor
    loader: Loader
    http_port: int | None
    grpc_port: int | None
    metrics_port: int | None


@contextlib.asynccontextmanager
async def running(
    options: Options, store: Store, say: Callable[[str], None]
) -> AsyncIterator[Running]:
    """Serve while the block runs; its end waits for requests that run.

    Raises:
        ConfigError: a port is taken, or a repository is not there.
        UnsupportedError: a library is missing.
        ServerError: a model cannot be loaded, and that is to end the server.
    """
    table = Table()
    repository = Repository(options.repositories, lambda text: say(f"warning: {text}"))
    loader = Loader(table, store, repository, say)
    spans = start_spans(os.environ, say)
    door = FrontDoor(
        Service(table, store, options.limits, spans=spans),
        loader,
        repository,
        options.control,
        options.limits,
        say,
        Callers(options.tenant_header, spans),
    )
    async with contextlib.AsyncExitStack() as stack:
        if spans is not None:
            stack.push_async_callback(asyncio.to_thread, spans.close)
        doors = _Doors()
        stack.push_async_callback(doors.close)
        page = Page(door) if options.page else None
        http = await _http(doors, options, options.http_port, RestApp(door, page))
        grpc = await _grpc(doors, options, door)
        metrics = await _http(doors, options, options.metrics_port, MetricsApp(door))
        await _load(options, loader, repository, door, say)
        if options.control is Control.POLL:
            poller = asyncio.ensure_future(_poll(loader, options.poll_s, say))
            stack.callback(poller.cancel)
        try:
            yield Running(
                door=door, loader=loader, http_port=http, grpc_port=grpc, metrics_port=metrics
            )
        finally:
            door.draining = True
    await loader.settle()


async def serve(options: Options, store: Store, say: Callable[[str], None]) -> None:
    """Serve until a signal says to end; a second one ends at once. See `running`."""
    loop = asyncio.get_running_loop()
    end, now = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (now if end.is_set() else end).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with running(options, store, say) as server:
            say(
                f"ready: HTTP {server.http_port}, gRPC {server.grpc_port}, "
                f"metrics {server.metrics_port}; {len(server.door.table.models)} models"
            )
            await end.wait()
            server.door.draining = True
            say("ending: not ready any more, requests are still answered")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(now.wait(), options.delay_s)
    finally:
        await asyncio.to_thread(store.close)


class _Doors:
    """Doors that are open. All close at once: none takes requests while another still ends."""

    def __init__(self) -> None:
        self.closing: list[Callable[[], Awaitable[object]]] = []

    async def close(self) -> None:
        """Take no more requests, and wait for those that run."""
        ends = [close() for close in self.closing]
        for found in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(found, BaseException):
                raise found


async def _load(
    options: Options,
    loader: Loader,
    repository: Repository,
    door: FrontDoor,
    say: Callable[[str], None],
) -> None:
    """Load what is to be there at the start."""
    for name in options.served:
        loader.serve(name, name)
    names: list[str] = []
    if options.control is not Control.EXPLICIT or "*" in options.load:
        names = await asyncio.to_thread(repository.names)
    names += [name for name in options.load if name not in names and name != "*"]
    failures = []
    for name in names:
        try:
            await loader.load(name)
        except ServerError as e:
            failures.append(e)
    if failures and options.exit_on_error:
        raise failures[0]
    door.started = not (failures and options.strict)
    if failures:
        say(f"{len(failures)} of {len(names)} models could not be loaded")


async def _poll(loader: Loader, every_s: float, say: Callable[[str], None]) -> None:
    """Look at the repository again and again, whatever happens there."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await loader.poll()
        except OSError as e:
            say(f"the repository cannot be read: {e}")


async def _http(doors: "_Doors", options: Options, port: int | None, app: Any) -> int | None:
    """Open a door for HTTP."""
    if port is None:
        return None
    uvicorn = _library("uvicorn")

    class Quiet(uvicorn.Server):  # type: ignore[name-defined, misc]
        """Leaves signals to us."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    listener = _listen(options.host, port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        interface="asgi3",
        http=joining(_library("uvicorn.protocols.http.auto").AutoHTTPProtocol),
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_S,
        timeout_graceful_shutdown=max(1, round(options.exit_s)),
    )
    server = Quiet(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))

    async def close() -> None:
        server.should_exit = True
        await task

    doors.closing.append(close)
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    if task.done():
        task.result()
    found: int = listener.getsockname()[1]
    return found


async def _grpc(doors: "_Doors", options: Options, door: FrontDoor) -> int | None:
    if options.grpc_port is None:
        return None
    _library("grpc")
    from fusec.server.grpcserver import start_grpc

    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        server, port = await start_grpc(door, f"{host}:{options.grpc_port}")
    except RuntimeError as e:
        raise ConfigError(f"gRPC: {e}; is port {options.grpc_port} taken?") from e
    doors.closing.append(lambda: server.stop(options.exit_s))
    return port


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once instead of waiting for more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_LISTEN)
    except OSError as e:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {e}; give another port") from e
    return listener


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise UnsupportedError(
            f"serving needs {name}, which is not installed: pip install 'fusec[serve]'"
        ) from e


def new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give what makes the event loop: uvloop where it is installed, which takes half the time."""
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made
