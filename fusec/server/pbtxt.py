"""Protobuf's text format: from text to nested fields, whatever they mean.

name: "m"   input [ { dims: [ 3, 4 ] } ]   parameters { key: "k" value: { string_value: "v" } }
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass

__all__ = ["Entry", "Scalar", "parse_text"]

_MOST_DEPTH = 32
_MOST_CHARS = 4 << 20

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
    |(?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?))
    |(?P<mark>[{}\[\]<>:,;-])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSE = {"{": "}", "<": ">"}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as it is written."""

    kind: str
    """string, word or number."""
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A field and one value of it; lists are so many entries."""

    name: str
    value: "Scalar | tuple[Entry, ...]"
    line: int


Value: TypeAlias = "Scalar | tuple[Entry, ...]"


def parse_text(text: str, where: str) -> tuple[Entry, ...]:
    """Parse a message.

    Args:
        text: all of it.
        where: the file, for errors.

    Raises:
        ConfigError: not the text format; the message names the line.
    """
    if len(text) > _MOST_CHARS:
        raise ConfigError(f"{where}: has {len(text)} characters, at most {_MOST_CHARS} can be")
    parser = _Parser(text, where)
    entries = parser.entries(None, 0)
    return entries


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._tokens = self._split(text)
        self._next = next(self._tokens)

    def entries(self, end: str | None, depth: int) -> tuple[Entry, ...]:
        """Read fields up to a closing mark, or to the end."""
        if depth > _MOST_DEPTH:
            raise self._wrong("it is nested too deep")
        found: list[Entry] = []
        while True:
            if self._next.kind == "end" and end is None:
                return tuple(found)
            if self._next.kind == "mark" and self._next.text == end:
                self._take()
                return tuple(found)
            name = self._take()
            if name.kind != "word":
                raise self._wrong(f"a field's name belongs in place of {name.text!r}", name.line)
            self._values(name, found, depth)
            if self._is(",") or self._is(";"):
                self._take()

    def _values(self, name: Scalar, found: list[Entry], depth: int) -> None:
        colon = self._is(":")
        if colon:
            self._take()
        if not self._is("["):
            found.append(Entry(name.text, self._value(colon, depth), name.line))
            return
        self._take()
        while not self._is("]"):
            found.append(Entry(name.text, self._value(colon, depth), name.line))
            if self._is(","):
                self._take()
            elif not self._is("]"):
                raise self._wrong(f"a comma or ] belongs in place of {self._next.text!r}")
        self._take()

    def _value(self, colon: bool, depth: int) -> Value:
        token = self._take()
        if token.kind == "mark" and token.text in _CLOSE:
            return self.entries(_CLOSE[token.text], depth + 1)
        if token.kind == "mark" and token.text == "-" and self._next.kind == "word":
            token = Scalar("number", f"-{self._take().text}", token.line)
        if not colon or token.kind not in ("string", "word", "number"):
            raise self._wrong(f"a value belongs in place of {token.text!r}", token.line)
        while token.kind == "string" and self._next.kind == "string":
            token = Scalar("string", token.text + self._take().text, token.line)
        return token

    def _is(self, mark: str) -> bool:
        return self._next.kind == "mark" and self._next.text == mark

    def _take(self) -> Scalar:
        token = self._next
        if token.kind == "end":
            raise self._wrong("it ends in the middle of a field")
        self._next = next(self._tokens)
        return token

    def _split(self, text: str) -> Iterator[Scalar]:
        at, line = 0, 1
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ConfigError(f"{self._where}:{line}: cannot read {text[at : at + 20]!r}")
            kind, found = match.lastgroup or "", match.group()
            if kind == "string":
                found = _ESCAPE.sub(_unescape, found[1:-1])
            if kind != "space":
                yield Scalar(kind, found, line)
            line += match.group().count("\n")
            at = match.end()
        yield Scalar("end", "the end", line)

    def _wrong(self, text: str, line: int | None = None) -> ConfigError:
        return ConfigError(f"{self._where}:{self._next.line if line is None else line}: {text}")


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] in "01234567":
        return chr(int(code, 8) & 255)
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPES.get(code, code)
