"""How wide a panel of a packed weight is."""

__all__ = ["panel_width"]

_PREFERENCE = {48: 0, 64: 1, 32: 2, 16: 3}


def panel_width(n: int) -> int:
    """Choose the columns of a panel: least padding, then the widest up to 48.

    48 keeps 24 sums of 8 rows in registers; 64 serves few rows at widths that 48 would pad.
    """
    return min(_PREFERENCE, key=lambda nr: (-(-n // nr) * nr, _PREFERENCE[nr]))
