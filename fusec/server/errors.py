"""What a server tells a client that went wrong, once for REST and gRPC."""

from enum import Enum

from fusec.ir.errors import ConfigError, FusecError, KernelError, Rejected

__all__ = ["EXPIRED_TEXT", "Fault", "ServerError", "as_server_error"]

EXPIRED_TEXT = "Request timeout expired"
"""Triton's words for all that waited too long; clients look for them."""


class Fault(Enum):
    """Kinds of failures: HTTP status, and name of the gRPC status."""

    INVALID = (400, "INVALID_ARGUMENT")
    NOT_FOUND = (404, "NOT_FOUND")
    METHOD = (405, "UNIMPLEMENTED")
    TIMEOUT = (408, "DEADLINE_EXCEEDED")
    TOO_LARGE = (413, "RESOURCE_EXHAUSTED")
    ENCODING = (415, "INVALID_ARGUMENT")
    INTERNAL = (500, "INTERNAL")
    UNSUPPORTED = (501, "UNIMPLEMENTED")
    UNAVAILABLE = (503, "UNAVAILABLE")
    EXPIRED = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        """Status of an HTTP answer."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """Name of a gRPC status code."""
        return self.value[1]


class ServerError(FusecError):
    """A request that is answered with an error."""

    def __init__(self, text: str, fault: Fault = Fault.INVALID) -> None:
        """Say what is wrong, and what kind of fault it is."""
        super().__init__(text)
        self.fault = fault


def as_server_error(error: BaseException) -> ServerError:
    """Give the error that a client is told for whatever was raised."""
    if isinstance(error, ServerError):
        return error
    if isinstance(error, Rejected):
        if error.result == "expired":
            return ServerError(EXPIRED_TEXT, Fault.EXPIRED)
        return ServerError(str(error), Fault.UNAVAILABLE)
    if isinstance(error, ConfigError):
        return ServerError(str(error))
    if isinstance(error, KernelError):
        return ServerError(str(error), Fault.INTERNAL)
    return ServerError(f"{type(error).__name__}: {error}", Fault.INTERNAL)
