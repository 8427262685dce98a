"""Changes that break files: of JSON-like documents, of texts, of bytes. All draws come from one random
generator."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

NUMBERS = (
    0,
    -1,
    1,
    2,
    255,
    2**31,
    2**63,
    -(2**63),
    2**64,
    10**400,
    1e308,
    -1e308,
    1e-320,
    0.1,
    float("nan"),
    float("inf"),
    -float("inf"),
)
TEXTS = (
    "",
    " ",
    "x" * 3000,
    "\x00",
    "é‮\n",
    "nan",
    "-inf",
    "1e999",
    "0x10",
    "٣",
    "source",
    "joint",
    "\ud800",
    "..",
    "%s%n",
    "'\"",
    "{}",
)
WORDS = (
    *map(str, NUMBERS),
    *(t for t in TEXTS if t != "\ud800"),
    "true",
    "[]",
    "[[",
    "]",
    "{",
    "}",
    "=",
    ",",
    ";",
    "\n",
    "[a]\n",
    "[[a]]\n",
    "a = 1\n",
    '"',
    "'''",
    "#",
)


def deep(rng: random.Random) -> Any:
    """A value nested far deeper than any file has."""
    value: Any = 0
    for _ in range(rng.choice((3, 50, 400))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def odd(rng: random.Random) -> Any:
    """A value where another was expected."""
    pick = rng.random()
    if pick < 0.4:
        return rng.choice(NUMBERS)
    if pick < 0.7:
        return rng.choice(TEXTS)
    return rng.choice((None, True, False, [], {}, [[]], {"": {}}, [0] * 300, [None, ""], deep(rng)))


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a document."""
    found = [path]
    if isinstance(value, dict):
        for key in value:
            found += nodes(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 50)):
            found += nodes(value[i], (*path, i))
    return found


def document(value: Any, rng: random.Random) -> Any:
    """The document with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(nodes(value))
        if not path:
            if rng.random() < 0.03:
                return odd(rng)
            continue
        place = value
        for step in path[:-1]:
            place = place[step]
        action, key = rng.random(), path[-1]
        if action < 0.5:
            place[key] = odd(rng)
        elif action < 0.65:
            del place[key]
        elif action < 0.8:
            other = rng.choice(nodes(value))
            source = value
            for step in other:
                source = source[step]
            place[key] = copy.deepcopy(source)
        elif isinstance(place, dict):
            place[rng.choice((*map(str, TEXTS), "format_version", str(key) + "x"))] = (
                place.pop(key) if rng.random() < 0.5 else odd(rng)
            )
        else:
            place.extend([copy.deepcopy(place[key])] * rng.choice((1, 2, 200)))
    return value


def text(value: str, rng: random.Random) -> str:
    """The text with a few words or lines changed, taken out, or doubled."""
    lines = value.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not lines:
            return rng.choice(WORDS)
        at, action = rng.randrange(len(lines)), rng.random()
        if action < 0.6:
            parts = re.findall(r"\w+|\W", lines[at])
            if parts:
                i = rng.randrange(len(parts))
                parts[i : i + rng.choice((0, 1))] = [rng.choice(WORDS)]
            lines[at] = "".join(parts)
        elif action < 0.7:
            del lines[at]
        elif action < 0.8:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif action < 0.9:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    return "".join(lines)


def raw(value: bytes, rng: random.Random) -> bytes:
    """The bytes with a few places flipped, cut out, doubled or filled with telling numbers."""
    data = bytearray(value)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not data:
            return rng.randbytes(8)
        near = rng.random() < 0.5  # the beginning of a file says most
        at = rng.randrange(min(len(data), 400) if near else len(data))
        action, span = rng.random(), rng.choice((1, 1, 2, 4, 8, 64))
        if action < 0.35:
            data[at] ^= 1 << rng.randrange(8)
        elif action < 0.55:
            data[at : at + span] = rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * span
        elif action < 0.65:
            data[at : at + span] = rng.randbytes(span)
        elif action < 0.75:
            del data[at : at + span]
        elif action < 0.85:
            data[at:at] = data[at : at + span]
        elif action < 0.95:
            other = rng.randrange(len(data))
            data[at : at + span] = data[other : other + span]
        else:
            del data[at:]
    return bytes(data)
