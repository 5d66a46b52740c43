"""Device-tree source text (Devicetree Specification v0.4, chapter 6)."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from hypervisor.boot.fdt import Reservations, encode_item, phandles_of, shown_properties
from hypervisor.device.tree import Node, Ref, Value

_LABEL = re.compile(r"[A-Za-z_][0-9A-Za-z_]*")
_PRINTABLE = re.compile(rb"[ -~]+")


def to_dts(root: Node, reservations: Reservations = ()) -> str:
    """Source text of a tree, with labels and the phandles that `flatten` gives."""
    phandles = phandles_of(root)
    lines = ["/dts-v1/;", ""]
    lines += [f"/memreserve/ {address:#x} {size:#x};" for address, size in reservations]
    _source(root, "", lines, phandles)
    return "\n".join(lines) + "\n"


def _source(node: Node, indent: str, lines: list[str], phandles: Mapping[str, int]) -> None:
    label = f"{node.label}: " if node.label is not None and _LABEL.fullmatch(node.label) else ""
    lines.append(f"{indent}{label}{node.name or '/'} {{")
    inner = indent + "\t"
    for name, value in shown_properties(node, phandles).items():
        text = _source_value(value, phandles)
        lines.append(f"{inner}{name} = {text};" if text else f"{inner}{name};")
    for child in node.children:
        lines.append("")
        _source(child, inner, lines, phandles)
    lines.append(f"{indent}}};")


def _source_value(value: Value, phandles: Mapping[str, int]) -> str:
    if isinstance(value, bool):
        return ""
    if isinstance(value, bytes):
        return _source_bytes(value)
    items = [value] if isinstance(value, int | str | Ref) else list(value)
    parts: list[str] = []
    for item in items:
        if isinstance(item, str):
            parts.append(_quoted(encode_item(item, phandles)[:-1]))
        elif isinstance(item, bytes):
            parts.append(f"[{item.hex(' ')}]")
        else:
            named = isinstance(item, Ref) and _LABEL.fullmatch(item.label)
            cell = f"&{item.label}" if isinstance(item, Ref) and named else ""
            cell = cell or f"{int.from_bytes(encode_item(item, phandles), 'big'):#x}"
            if parts and parts[-1].startswith("<"):
                parts[-1] = f"{parts[-1][:-1]} {cell}>"
            else:
                parts.append(f"<{cell}>")
    return ", ".join(parts)


def _source_bytes(value: bytes) -> str:
    """The reading of untyped bytes that a person most likely wants."""
    strings = value.split(b"\0")
    if strings.pop() == b"" and all(_PRINTABLE.fullmatch(text) for text in strings):
        return ", ".join(_quoted(text) for text in strings)
    if value and len(value) % 4 == 0:
        cells = (f"{cell:#x}" for (cell,) in struct.iter_unpack(">I", value))
        return f"<{' '.join(cells)}>"
    return f"[{value.hex(' ')}]" if value else ""


def _quoted(text: bytes) -> str:
    shown = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}"
             for byte in text)  # fmt: skip
    return f'"{"".join(shown)}"'
