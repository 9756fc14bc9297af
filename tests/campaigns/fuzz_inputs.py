"""Bytes as inputs that are mostly valid, so that a fuzzer reaches what lies behind the first check.

The first byte of an input says how the others are read: as the file itself (RAW), as changes of a valid file
byte by byte (PATCH), as the content of a container that is packed anew around it (INSIDE), or as edits of a
valid document (EDIT).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["EDIT", "INSIDE", "ODD", "PATCH", "RAW"]
__all__ += ["edited", "json_file", "json_seeds", "mode", "patched", "scripts"]

RAW, PATCH, INSIDE, EDIT = range(4)

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**400),
    0.0, -0.0, 0.5, 1.5, -0.5, 1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf,
    "", "0.5", "1/3", "1/0", "1e999", "1e-999", "nan", "x", "t/T", "0x10", "\x00", "\ud800", "é\u202e", "$x_",
    "<script>", "]]>&{{", "t**" * 40, "9" * 5000, "family", "Constant", "Joined", "Periodic", "Tabulated",
    [], {}, [1], [0.5, 0.5], [[0.5]], ["0.5"], [None], {"family": "Constant", "value": 0.5}, {"value": 1},
)  # fmt: skip
"""Values to put where something else is expected."""


def mode(data: bytes) -> tuple[int, bytes]:
    """How to read an input, and the rest of it."""
    return (data[0] % 4, data[1:]) if data else (RAW, b"")


def scripts(*kinds: int) -> list[bytes]:
    """A few short inputs of these kinds."""
    edits = (
        b"",
        b"\x00\x20\x00\x03",
        b"\x01\x80\x00\x0d",
        b"\x02\xf0\x00\x00\x04\x30\x00\x80",
        b"\x07\xa0\x00\x81",
        b"\x00\x10\x00\x16\x05\x40\x00\x40",
    )
    return [bytes([kind, *edit]) for kind in kinds for edit in edits]


def _steps(script: bytes) -> Iterator[tuple[int, int, int]]:
    """What to do, at which share of 65,536 of the whole, and with what: four bytes each, at most 64 times."""
    for action, high, low, value in zip(*[iter(script[:256])] * 4, strict=False):
        yield action, 256 * high + low, value


def patched(valid: bytes, script: bytes) -> bytes:
    """A valid file after changes: bytes set, flipped, left out or repeated, or the end cut off."""
    content = bytearray(valid)
    for action, place, value in _steps(script):
        at = place * len(content) >> 16
        match action % 5:
            case 0:
                content[at : at + 1] = bytes([value])
            case 1:
                content[at : at + 1] = bytes(byte ^ (value or 1) for byte in content[at : at + 1])
            case 2:
                del content[at : at + 1 + value]
            case 3:
                content[at:at] = content[at : at + 1 + value]
            case 4:
                del content[at:]
    return bytes(content)


def edited(document: Any, script: bytes, odd: Sequence[Any] = ODD) -> Any:
    """A valid document after edits: values replaced, left out, renamed, moved, repeated or changed a little.

    Args:
        document: dicts and lists of anything.
        script: the edits.
        odd: values to put somewhere.
    """
    root = [copy.deepcopy(document)]
    for action, place, value in _steps(script):
        places = list(_places(root))
        holder, key = places[place * len(places) >> 16]
        other, name = places[value * len(places) >> 8]
        strange = copy.deepcopy(odd[value % len(odd)])
        old = holder[key]
        match action % 8:
            case 0 | 1:
                holder[key] = strange
            case 2 if holder is not root:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[str(strange)] = holder.pop(key)
            case 3 if holder is not root:
                holder.insert(key, copy.deepcopy(old))
            case 4:
                holder[key] = copy.deepcopy(other[name])
            case 5 if isinstance(old, int | float):
                with contextlib.suppress(OverflowError):
                    holder[key] = old * (value - 128) / 8
            case 5 if isinstance(old, str):
                at = value % (len(old) + 1)
                holder[key] = old[:at] + chr(place) + old[at:]
            case 6:
                holder[key] = [old]
            case 7 if isinstance(old, int) and abs(old) < 2**64:
                holder[key] = old + value - 128
    return root[0]


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document that holds something: the dict or list, and the key or index."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def json_file(data: bytes, valid: Any) -> bytes:
    """A JSON file: raw, patched, nested deeply, or from an edited document."""
    kind, script = mode(data)
    if kind == RAW:
        return script
    if kind == PATCH:
        return patched(json.dumps(valid).encode(), script)
    if kind == INSIDE:
        depth = 400 * len(script)
        return b'{"rows":' * depth + b"[" * depth + patched(json.dumps(valid).encode(), script)
    return json.dumps(edited(valid, script)).encode()


def json_seeds(*documents: Any) -> list[bytes]:
    """These documents raw, and inputs of each other kind."""
    raw = [bytes([RAW]) + json.dumps(document).encode()[:4000] for document in documents]
    return [*raw, *scripts(PATCH, INSIDE, EDIT)]
