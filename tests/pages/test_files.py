"""Data in pages: whatever names are in it, it comes out as it went in, and is nothing but data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusec.pages.files import json_in_html, style, text_of

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class Reader(HTMLParser):
    """Reads a page as a browser does."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.inside: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of it."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Take the data of the tag before."""
        self.inside[self.tags[-1]] = self.inside.get(self.tags[-1], "") + data


@given(DATA)
@example("</script><script>alert(1)</script>")
@example("<!--<script>")
@example(["]]>", "\u2028\u2029", "&lt;", '"\\', {"</SCRIPT ": "'"}])
def test_data_end_no_script(data: Any) -> None:
    text = json_in_html(data)
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == data
    reader = Reader()
    reader.feed(f'<body><script type="application/json">{text}</script></body>')
    assert reader.tags == ["body", "script"]
    assert json.loads(reader.inside["script"]) == data


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_in_html({"x": float("nan")})


@pytest.mark.parametrize("package", ["fusec.server.page", "fusec.simulation"])
def test_styles_ask_for_nothing(package: str) -> None:
    css = style(package, "page.css")
    assert css.startswith(text_of("fusec.pages", "base.css"))
    assert not re.search(r"url\(|@import|https?:", css)


def _colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", css))


def _light(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_from_what_is_behind_them(dark: bool) -> None:
    """As WCAG has it: 4.5 for text, 3 for all else that means something."""
    found = _colours(text_of("fusec.pages", "base.css").split("@media")[dark])
    for name, colour in found.items():
        least = 4.5 if name in ("ink", "soft", "good", "bad") else 3.0
        for behind in ("back", "card"):
            low, high = sorted([_light(colour), _light(found[behind])])
            if name not in ("line", "back", "card"):
                assert (high + 0.05) / (low + 0.05) >= least, (name, behind)
