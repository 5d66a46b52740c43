"""A description as it was written: values with the place each came from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypervisor.config.problem import Mark

Path = tuple[str | int, ...]
"""Keys and list positions from the top."""


@dataclass(slots=True)
class Node:
    """One value. `value` is a scalar, a dict of Nodes or a list of Nodes."""

    value: Any
    mark: Mark
    key_mark: Mark
    """The place of the key that introduces the value; its own place where there is no key."""
    text: str = ""
    """A scalar as it was written, such as 0x1000_0000."""

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    def get(self, *path: str | int) -> Node | None:
        """The value at `path` below this one."""
        node, rest = self.deepest(path)
        return None if rest else node

    def deepest(self, path: Sequence[str | int]) -> tuple[Node, Path]:
        """The last value on the way along `path` that exists, and the steps that do not."""
        node = self
        for position, step in enumerate(path):
            child = node.child(step)
            if child is None:
                return node, tuple(path[position:])
            node = child
        return node, ()

    def child(self, step: str | int) -> Node | None:
        if isinstance(self.value, dict):
            found: Node | None = self.value.get(step)
            return found
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            item: Node = self.value[step]
            return item
        return None

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def walk(self) -> Iterator[Node]:
        """This value and all below it."""
        yield self
        children = self.value.values() if isinstance(self.value, dict) else self.value
        if isinstance(self.value, dict | list):
            for child in children:
                yield from child.walk()

    def directory(self) -> str:
        """The directory that relative file names in this value start from."""
        return "" if self.mark.override else os.path.dirname(self.mark.file)


def merge(base: Node, over: Node) -> Node:
    """`over` laid over `base`: mappings merge, null deletes a key, anything else replaces."""
    if not (base.is_mapping and over.is_mapping):
        return over
    merged: dict[str, Node] = dict(base.value)
    for key, child in over.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return Node(merged, over.mark, over.key_mark)


def prune(node: Node) -> Node:
    """`node` without the keys whose value is null: null says "as if this were not here"."""
    if isinstance(node.value, dict):
        kept = {key: prune(child) for key, child in node.value.items() if child.value is not None}
        return Node(kept, node.mark, node.key_mark, node.text)
    if isinstance(node.value, list):
        return Node([prune(child) for child in node.value], node.mark, node.key_mark, node.text)
    return node
