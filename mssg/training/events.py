"""TensorBoard's event files, written here and now: no thread that outlives an error, no name of the machine,
and no package needed.

A file is a row of records: length (uint64), its checksum, a protocol buffer `Event`, its checksum. Source:
TensorFlow's documentation of TFRecord, and its event.proto and summary.proto for the numbers of fields.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5
"""How protocol buffers write a field."""
START = 1
"""A session log that says: a training starts again here."""


class Events:
    """A file of TensorBoard events.

    Files are numbered, so that TensorBoard reads them in order whatever the clock said.

    Args:
        purge: Steps from here on, in files before this one, no longer count; None for a new run.
    """

    def __init__(self, run: Path, purge: int | None) -> None:
        self._path = run / f"events.out.tfevents.{len(list(run.glob('events.*'))):06d}"
        self._add(_field(3, BYTES, b"brain.Event:2"))
        if purge is not None:
            self._add(_field(2, VARINT, purge) + _field(7, BYTES, _field(1, VARINT, START)))

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """One scalar for each name."""
        values = [_field(1, BYTES, tag.encode()) + _field(2, FLOAT, value) for tag, value in numbers.items()]
        summary = b"".join(_field(1, BYTES, value) for value in values)
        self._add(_field(2, VARINT, step) + _field(5, BYTES, summary))

    def _add(self, event: bytes) -> None:
        with open(self._path, "ab") as file:
            file.write(_record(_field(1, DOUBLE, time.time()) + event))


def _field(number: int, kind: int, value: float | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, bytes):
        value = _varint(len(value)) + value
    elif kind == VARINT:
        value = _varint(int(value))
    else:
        value = struct.pack("<d" if kind == DOUBLE else "<f", value)
    return _varint(number << 3 | kind) + value


def _varint(n: int) -> bytes:
    """A whole number ≥ 0, seven bits a byte, the lowest first."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, turned by 15 bits and moved by a constant, as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _table()[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _table() -> tuple[int, ...]:
    """What a byte adds to CRC-32C (polynomial 0x1EDC6F41, bits reversed)."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)
