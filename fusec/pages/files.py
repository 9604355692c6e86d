"""Style sheets and scripts that lie beside the code, and data for a script to read."""

import json
from importlib.resources import files
from typing import Any

__all__ = ["json_in_html", "style", "text_of"]

_UNSAFE = str.maketrans(
    {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}  # the end of a script, or of a line in one
)


def text_of(package: str, name: str) -> str:
    """Give a file that is installed with a package."""
    return files(package).joinpath(name).read_text("utf-8")


def style(package: str, name: str) -> str:
    """Give the style sheet of a page, which builds on that of all pages."""
    return text_of("fusec.pages", "base.css") + text_of(package, name)


def json_in_html(data: Any) -> str:
    """Give data as JSON that ends no element of HTML, whatever names are in it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_UNSAFE)
