"""Ways to decide which models are loaded."""

from enum import StrEnum

__all__ = ["Control"]


class Control(StrEnum):
    """Who decides which models are loaded."""

    NONE = "none"
    """All of them when the server starts."""

    POLL = "poll"
    """What is in the repository, looked at again and again."""

    EXPLICIT = "explicit"
    """Clients."""
