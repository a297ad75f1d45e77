"""Requests that differ from a valid one in a single place, as the bytes that go over the wire."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_STRINGS: Final = (
    "",
    "x",
    " \n\t",
    "\0",
    "ä€😀\u202e\u0301",
    "x" * 128,
    "x" * 129,
    "x" * 257,
    "word " * 5_000,
    "{{ 1/0 }}{% raw %}<|im_start|>%s%n",
)
_UNSIGNED: Final = (0, 1, 2, 511, 512, 513, 4096, 2**31 - 1, 2**31, 2**32 - 1)
_DOUBLES: Final = (0.0, -0.0, 5e-324, 1.0, 2.0, 2.1, -1.0, 1e308, math.inf, -math.inf, math.nan)
_ENUMS: Final = (0, 1, 2, 3, 99, -1, 2**31 - 1)
_TIMES: Final = (2, 16, 17, 64, 65, 1024, 1025, 5_000)
"""How often an element of a list is repeated."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_NOT_UTF8: Final = b"\xc3\x28\xff"


@dataclass(frozen=True, slots=True)
class Mutation:
    """The bytes of a request, and in what they differ from a valid one."""

    what: str
    request: bytes

    def __str__(self) -> str:
        return self.what


def mutations(valid: Message) -> Iterator[Mutation]:
    """Everything that is tried on a valid request, one thing at a time."""
    yield Mutation("nothing", valid.SerializeToString())
    yield from _of_fields(valid, valid, "")
    yield from _of_bytes(valid)


def _of_fields(root: Message, message: Message, path: str) -> Iterator[Mutation]:
    """Other values for each field of the message, which is part of the root."""
    for field in message.DESCRIPTOR.fields:
        name = f"{path}{field.name}"
        kept = _copy(message)
        for what, value in _values(field, message):
            _set(message, field, value)
            yield Mutation(f"{name} {what}", root.SerializeToString())
            message.CopyFrom(kept)
        for wire in _wire_values(field):
            yield Mutation(f"{name} {wire.what}", _with(root, message, wire.request))
        if field.message_type is not None:
            for position, part in enumerate(_parts(field, message)):
                yield from _of_fields(root, part, f"{name}[{position}].")


def _values(field: FieldDescriptor, message: Message) -> Iterator[tuple[str, Any]]:
    if field.message_type is not None and not field.is_repeated:
        yield "absent", None
        return
    if field.is_repeated:
        yield from _lists(field, message)
        return
    if field.has_presence:
        yield "absent", None
    for value in _scalars(field):
        yield _said(value), value


def _lists(field: FieldDescriptor, message: Message) -> Iterator[tuple[str, Any]]:
    """Other lists: none, some element many times over, and other values of that element."""
    elements = list(getattr(message, field.name))
    yield "empty", []
    if field.message_type is None:
        yield from ((f"of {_said(value)}", [value]) for value in _scalars(field))
        elements = elements or ["x"]
    if elements:
        yield from ((f"{times} times", elements[:1] * times) for times in _TIMES)


def _scalars(field: FieldDescriptor) -> tuple[Any, ...]:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _STRINGS
        case FieldDescriptor.TYPE_UINT32:
            return _UNSIGNED
        case FieldDescriptor.TYPE_UINT64:
            return (*_UNSIGNED, 2**63, 2**64 - 1)
        case FieldDescriptor.TYPE_DOUBLE:
            return _DOUBLES
        case FieldDescriptor.TYPE_ENUM:
            return _ENUMS
        case FieldDescriptor.TYPE_BOOL:
            return (False, True)
    raise AssertionError(f"no values for {field.full_name}")


def _wire_values(field: FieldDescriptor) -> Iterator[Mutation]:
    """What a message of the generated classes could not say: bytes to be added to its own."""
    if field.type == FieldDescriptor.TYPE_STRING:
        yield Mutation("not UTF-8", _bytes_field(field.number, _NOT_UTF8))
    if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
        negative = _tag(field.number, _VARINT) + _varint(2**64 - 1)
        yield Mutation("negative", negative)
    yield Mutation("of another type", _tag(field.number, _FIXED32) + b"\1\2\3\4")


def _of_bytes(valid: Message) -> Iterator[Mutation]:
    """Unknown fields, which are to be ignored, and bytes that are no message."""
    good = valid.SerializeToString()
    unknown = {
        "number": _tag(1000, _VARINT) + _varint(7),
        "double": _tag(1000, _FIXED64) + struct.pack("<d", 7.0),
        "text": _bytes_field(1000, b"seven"),
        "garbage": _bytes_field(1000, _NOT_UTF8),
        "group": _tag(1000, _GROUP) + _tag(1001, _VARINT) + b"\7" + _tag(1000, _END_GROUP),
        "much": _bytes_field(1000, b"x" * 1_000_000),
    }
    yield from (Mutation(f"unknown {what}", good + more) for what, more in unknown.items())
    yield Mutation("unclosed group", good + _tag(1000, _GROUP))
    yield Mutation("length beyond the end", good + _tag(1000, _BYTES) + _varint(2**31))
    yield Mutation("endless number", good + _tag(1000, _VARINT) + b"\xff" * 11)
    yield Mutation("field number 0", good + b"\0\0")
    yield from (Mutation(f"cut at {end}", good[:end]) for end in range(0, len(good), 7))


def _with(root: Message, message: Message, more: bytes) -> bytes:
    """The root's bytes, with more bytes in this message of it."""
    if message is root:
        return root.SerializeToString() + more
    marked = _bytes_field(1000, more)
    kept = _copy(message)
    message.MergeFromString(marked)
    whole = root.SerializeToString()
    message.CopyFrom(kept)
    # As long as the mark: an unknown field is exchanged for the bytes, and no length changes.
    return whole.replace(marked, more + _padding(len(marked) - len(more)))


def _padding(size: int) -> bytes:
    """An unknown field of so many bytes."""
    return _bytes_field(15, b"\0" * (size - 2))


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    message.ClearField(field.name)
    if field.is_repeated:
        getattr(message, field.name).extend(value)
    elif value is not None:
        setattr(message, field.name, value)


def _parts(field: FieldDescriptor, message: Message) -> list[Message]:
    """The messages that the field holds."""
    if field.is_repeated:
        return list(getattr(message, field.name))
    return [getattr(message, field.name)] if message.HasField(field.name) else []


def _copy(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:20]}... of {len(value)}"


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _bytes_field(number: int, content: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
