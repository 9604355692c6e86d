"""Who sends a request, as its headers tell: the tenant, and the trace that it is part of."""

from collections.abc import Mapping
from typing import Any

from fusec.ir.frozen import dataclass
from fusec.server.tracing import Spans

__all__ = ["NOBODY", "Caller", "Callers"]

_MOST_CHARS = 4096
"""Of a tenant's name, as in parameters."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    tenant: str | None
    """What a header says; whoever sets it is trusted more than the request itself."""
    parent: Any
    """Context of the trace, see `fusec.server.tracing`."""


NOBODY = Caller(None, None)


class Callers:
    """Reads headers, if anything in them is of interest."""

    def __init__(self, tenant_header: str | None = None, spans: Spans | None = None) -> None:
        """Take what to look for.

        Args:
            tenant_header: that names the tenant; of gRPC metadata as well.
            spans: continue traces.
        """
        self._tenant = (tenant_header or "").strip().lower()
        self._spans = spans
        self._nothing = not self._tenant and spans is None

    def of_http(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Read headers, with names in lower case."""
        if self._nothing:
            return NOBODY
        return self._read({k.decode("latin-1"): _text(v) for k, v in headers.items()})

    def of_grpc(self, context: Any) -> Caller:
        """Read the metadata of a call."""
        if self._nothing:
            return NOBODY
        pairs = context.invocation_metadata() or ()
        return self._read({k: v if isinstance(v, str) else _text(v) for k, v in pairs})

    def _read(self, headers: Mapping[str, str]) -> Caller:
        tenant = headers.get(self._tenant, "").strip()[:_MOST_CHARS] if self._tenant else ""
        parent = None if self._spans is None else self._spans.parent(headers)
        return Caller(tenant or None, parent)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
