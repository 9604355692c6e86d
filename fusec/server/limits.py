"""How much one request may ask of the server before anything is known about it."""

from fusec.ir.frozen import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what is read."""

    body_bytes: int = 64 << 20
    """Of a request, after decompression. JSON takes up to twenty times its text once parsed."""
    all_bodies_bytes: int = 1 << 30
    """Of all requests that are being received or answered."""
    body_s: float = 60.0
    """Until a body is there, in seconds: who sends slowly holds memory that others could use."""
    tensors: int = 1024
    """Inputs, and outputs asked for."""
    rank: int = 32
    """Of a shape."""
    parameters: int = 1024
    """Of a request or of a tensor."""
    text_bytes: int = 4096
    """Of an id, a name or a parameter."""
    tenants: int = 1000
    """That are told apart; requests of more of them count as their models' own."""
