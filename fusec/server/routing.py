"""Paths of the REST protocol: which call is meant, and of what."""

import re
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

from fusec.ir.frozen import dataclass
from fusec.server.errors import Fault, ServerError

__all__ = ["Call", "Route", "route"]


class Call(Enum):
    """What can be asked for."""

    SERVER = auto()
    LIVE = auto()
    READY = auto()
    MODELS = auto()
    MODEL = auto()
    MODEL_READY = auto()
    MODEL_CONFIG = auto()
    STATISTICS = auto()
    INFER = auto()
    INDEX = auto()
    LOAD = auto()
    UNLOAD = auto()
    SHARED_STATUS = auto()
    SHARED = auto()
    TRACE = auto()
    LOG = auto()
    PAGE = auto()
    EVENTS = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """A call, and the model and version that its path names."""

    call: Call
    model: str
    version: str | None


_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[0-9]+))?"
_PATHS = (
    (rf"{_MODEL}/infer", Call.INFER, "POST"),
    (r"/v2/health/live", Call.LIVE, "GET|HEAD"),
    (r"/v2/health/ready", Call.READY, "GET|HEAD"),
    (r"/v2/?", Call.SERVER, "GET"),
    (r"/v2/models/?", Call.MODELS, "GET"),
    (r"/v2/models/stats", Call.STATISTICS, "GET"),
    (_MODEL, Call.MODEL, "GET"),
    (rf"{_MODEL}/ready", Call.MODEL_READY, "GET|HEAD"),
    (rf"{_MODEL}/config", Call.MODEL_CONFIG, "GET"),
    (rf"{_MODEL}/stats", Call.STATISTICS, "GET"),
    (r"/v2/repository(?:/[^/]+)?/index", Call.INDEX, "POST"),
    (r"/v2/repository(?:/[^/]+)?/models/(?P<model>[^/]+)/load", Call.LOAD, "POST"),
    (r"/v2/repository(?:/[^/]+)?/models/(?P<model>[^/]+)/unload", Call.UNLOAD, "POST"),
    (r"/v2/(?:system|cuda)sharedmemory(?:/region/[^/]+)?/status", Call.SHARED_STATUS, "GET"),
    (
        r"/v2/(?:system|cuda)sharedmemory(?:/region/[^/]+)?/(?:un)?register",
        Call.SHARED,
        "POST",
    ),
    (r"/v2(?:/models/[^/]+)?/trace/setting", Call.TRACE, "GET|POST"),
    (r"/v2/logging", Call.LOG, "GET|POST"),
    (r"/", Call.PAGE, "GET|HEAD"),
    (r"/page/events", Call.EVENTS, "GET|HEAD"),
)
_ROUTES = tuple((re.compile(path), call, how.split("|")) for path, call, how in _PATHS)


def route(method: str, raw_path: bytes) -> Route:
    """Find what is asked for.

    Args:
        method: of HTTP.
        raw_path: as it was sent, so that a slash in a name is no slash in the path.

    Raises:
        ServerError: there is no such path, or not for this method.
    """
    path = raw_path.partition(b"?")[0].decode("latin-1")
    allowed = False
    for pattern, call, wanted in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        if method not in wanted:
            allowed = True
            continue
        found = match.groupdict()
        return Route(call, _name(found.get("model") or ""), found.get("version"))
    if allowed:
        raise ServerError("Method Not Allowed", Fault.METHOD)
    raise ServerError("Not Found", Fault.NOT_FOUND)


def _name(quoted: str) -> str:
    return unquote_to_bytes(quoted).decode(errors="replace")
