"""``fusec merge``: several models of a kind as one model file that runs anywhere."""

__all__ = ["merge"]


def merge() -> None:
    """Merge."""
