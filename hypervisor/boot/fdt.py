"""Flattened device trees: writer and reader.

Follows the Devicetree Specification v0.4, chapter 5 (format version 17).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from itertools import count

from hypervisor.device.tree import Item, Node, Ref, Value

MAGIC = 0xD00DFEED
VERSION, LAST_COMPATIBLE_VERSION = 17, 16
MAX_DEPTH = 64
"""Linux's own limit on nesting (FDT_MAX_DEPTH)."""

_HEADER = struct.Struct(">10I")
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
_NODE_NAME = re.compile(r"[0-9A-Za-z,._+-]+(@[0-9A-Za-z,._+-]+)?")
_PROPERTY_NAME = re.compile(r"[0-9A-Za-z,._+?#-]+")
_NAME_LIMIT = 255

Reservations = Sequence[tuple[int, int]]


class FdtError(Exception):
    """A tree that cannot be written, or bytes that are not one: one sentence."""


def flatten(root: Node, reservations: Reservations = (), boot_hart: int = 0) -> bytes:
    """The blob of a tree. `reservations` are (address, size) of memory the guest must not use.

    Equal trees give equal blobs: phandles count from 1 in tree order, over the nodes referred to.
    """
    phandles = phandles_of(root)
    names = sorted({name for node in root.walk() for name in shown_properties(node, phandles)})
    offsets: dict[str, int] = {}
    strings = bytearray()
    for name in names:
        _check_name(_PROPERTY_NAME, name, "property")
        offsets[name] = len(strings)
        strings += name.encode() + b"\0"
    structure = bytearray()
    _flatten_node(root, "", structure, offsets, phandles)
    structure += struct.pack(">I", _END)
    map_offset = _HEADER.size
    structure_offset = map_offset + 16 * (len(reservations) + 1)
    strings_offset = structure_offset + len(structure)
    size = strings_offset + len(strings)
    header = _HEADER.pack(
        *(MAGIC, size, structure_offset, strings_offset, map_offset),
        *(VERSION, LAST_COMPATIBLE_VERSION, boot_hart, len(strings), len(structure)),
    )
    memory_map = b"".join(struct.pack(">QQ", *entry) for entry in (*reservations, (0, 0)))
    return header + memory_map + bytes(structure) + bytes(strings)


def parse(blob: bytes) -> Node:
    """The tree in a blob. Values are bytes, or True where empty; FdtError says what is wrong."""
    if len(blob) < _HEADER.size:
        raise FdtError(f"{len(blob)} bytes are too few for a device tree's header")
    magic, size, structure, strings, _, version, last, _, strings_size, structure_size = (
        _HEADER.unpack_from(blob)
    )
    if magic != MAGIC:
        raise FdtError(f"a device tree begins with {MAGIC:#x}, this begins with {magic:#x}")
    if version < VERSION or last > VERSION:
        raise FdtError(f"device tree version {version} is not {VERSION} or compatible with it")
    if size > len(blob):
        raise FdtError(f"the device tree is cut short: {len(blob)} of {size} bytes")
    if structure + structure_size > size or strings + strings_size > size:
        raise FdtError(f"the device tree's blocks reach beyond its {size} bytes")
    block = blob[structure : structure + structure_size]
    return _Reader(block, blob[strings : strings + strings_size]).root()


def encode(value: Value, phandles: Mapping[str, int]) -> bytes:
    """The bytes of a property's value."""
    if isinstance(value, bool):
        return b""
    if isinstance(value, int | str | bytes | Ref):
        return encode_item(value, phandles)
    return b"".join(encode_item(item, phandles) for item in value)


def encode_item(item: Item, phandles: Mapping[str, int]) -> bytes:
    """The bytes of one item of a value."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        if "\0" in item:
            raise FdtError(f"the string {item!r} holds a NUL, which ends strings in a device tree")
        return item.encode(errors="surrogateescape") + b"\0"
    if isinstance(item, Ref):
        if item.label not in phandles:
            raise FdtError(f"no node of the device tree has the label '{item.label}'")
        return struct.pack(">I", phandles[item.label])
    if not 0 <= item < 1 << 32:
        raise FdtError(f"{item:#x} does not fit a 32-bit cell: write it as two with u64()")
    return struct.pack(">I", item)


def phandles_of(root: Node) -> dict[str, int]:
    """The phandle of every label that something refers to; a node's own `phandle` counts."""
    labelled: dict[str, Node] = {}
    wanted: set[str] = set()
    taken: set[int] = set()
    for node in root.walk():
        if node.label in labelled:
            raise FdtError(f"two nodes of the device tree have the label '{node.label}'")
        if node.label is not None:
            labelled[node.label] = node
        own = node.properties.get("phandle")
        if isinstance(own, int):
            taken.add(own)
        for value in node.properties.values():
            items = value if isinstance(value, Sequence) else [value]
            wanted.update(item.label for item in items if isinstance(item, Ref))
    free = (number for number in count(1) if number not in taken)
    phandles: dict[str, int] = {}
    for label, node in labelled.items():
        if label in wanted:
            own = node.properties.get("phandle")
            phandles[label] = own if isinstance(own, int) else next(free)
    return phandles


def shown_properties(node: Node, phandles: Mapping[str, int]) -> dict[str, Value]:
    """The properties a node has in the blob."""
    shown = {name: value for name, value in node.properties.items() if value is not False}
    if node.label in phandles and node.label is not None:
        shown.setdefault("phandle", phandles[node.label])
    return shown


# -- writing ----------------------------------------------------------------------------------


def _flatten_node(
    node: Node, path: str, out: bytearray, offsets: Mapping[str, int], phandles: Mapping[str, int]
) -> None:
    if path:
        _check_name(_NODE_NAME, node.name, f"node of {path}")
    here = f"{path.rstrip('/')}/{node.name}" if path else "/"
    if path and here.count("/") >= MAX_DEPTH:
        raise FdtError(f"the device tree is nested more than {MAX_DEPTH} nodes deep")
    out += struct.pack(">I", _BEGIN_NODE) + _padded((node.name if path else "").encode() + b"\0")
    for name, value in shown_properties(node, phandles).items():
        try:
            data = encode(value, phandles)
        except FdtError as error:
            raise FdtError(f"{here}, property {name}: {error}") from None
        out += struct.pack(">III", _PROP, len(data), offsets[name]) + _padded(data)
    seen: set[str] = set()
    for child in node.children:
        if child.name in seen:
            raise FdtError(f"{here} has two nodes named {child.name}")
        seen.add(child.name)
        _flatten_node(child, here, out, offsets, phandles)
    out += struct.pack(">I", _END_NODE)


def _check_name(pattern: re.Pattern[str], name: str, what: str) -> None:
    if len(name) > _NAME_LIMIT or not pattern.fullmatch(name):
        raise FdtError(f"'{name[:40]}' cannot be the name of a {what} in a device tree")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# -- reading ----------------------------------------------------------------------------------


class _Reader:
    """Walks a structure block once; work and memory are proportional to its size."""

    def __init__(self, block: bytes, strings: bytes) -> None:
        self._block = block
        self._strings = strings
        self._at = 0
        self._names: dict[int, str] = {}

    def root(self) -> Node:
        path: list[Node] = []
        siblings: list[set[str]] = []
        while True:
            token = self._cell()
            if token == _BEGIN_NODE:
                node = Node(self._node_name(is_root=not path))
                if len(path) >= MAX_DEPTH:
                    raise FdtError(f"nodes are nested more than {MAX_DEPTH} deep")
                if path:
                    if node.name in siblings[-1]:
                        raise FdtError(f"{path[-1].name or '/'} has two nodes named {node.name}")
                    siblings[-1].add(node.name)
                    path[-1].add(node)
                path.append(node)
                siblings.append(set())
            elif token == _PROP and path:
                self._property(path[-1])
            elif token == _END_NODE and path:
                node = path.pop()
                siblings.pop()
                if not path:
                    return self._finish(node)
            elif token != _NOP:
                raise FdtError(f"token {token:#x} at {self._at - 4:#x} has no place there")

    def _finish(self, root: Node) -> Node:
        token = _NOP
        while token == _NOP:
            token = self._cell()
        if token != _END:
            raise FdtError(f"token {token:#x} follows the root node where the tree must end")
        return root

    def _cell(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._block):
            raise FdtError(f"the structure block ends early, at {len(self._block):#x}")
        data = self._block[self._at : end]
        self._at = end + -end % 4
        return data

    def _node_name(self, is_root: bool) -> str:
        start = self._at
        end = self._block.find(b"\0", start, start + _NAME_LIMIT + 1)
        name = self._block[start:end].decode("latin-1")
        if end < 0 or (name if is_root else not _NODE_NAME.fullmatch(name)):
            raise FdtError(f"the node name at {start:#x} is not a valid one")
        self._take(end + 1 - start)
        return name

    def _property(self, node: Node) -> None:
        size, offset = self._cell(), self._cell()
        name = self._property_name(offset)
        if node.children:
            raise FdtError(f"property {name} follows a node within {node.name or '/'}")
        if name in node.properties:
            raise FdtError(f"node {node.name or '/'} has property {name} twice")
        node.properties[name] = self._take(size) or True

    def _property_name(self, offset: int) -> str:
        if offset not in self._names:
            end = self._strings.find(b"\0", offset, offset + _NAME_LIMIT + 1)
            name = self._strings[offset:end].decode("latin-1")
            if end < 0 or not _PROPERTY_NAME.fullmatch(name):
                raise FdtError(f"the property name at {offset:#x} is not a valid one")
            self._names[offset] = name
        return self._names[offset]
