"""Device-tree nodes, as device models describe themselves (Devicetree Specification v0.4, ch. 2).

node = Node(f"serial@{base:x}", {"interrupts": [10]}, label="uart0")
node["clock-frequency"] = 3_686_400
node["interrupt-parent"] = Ref("plic")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ref:
    """A cell that becomes the phandle of the node with this label."""

    label: str


Item = int | str | bytes | Ref
Value = Item | Sequence[Item]
"""A property: an int or a Ref is one 32-bit cell, a string ends in NUL, bytes stand for
themselves, a sequence is its items one after another. True is a property without a value;
False leaves the property out."""


def u64(*values: int) -> list[int]:
    """64-bit values as two cells each, high half first: `[*u64(base, size)]`."""
    return [half for value in values for half in (value >> 32, value & 0xFFFF_FFFF)]


@dataclass
class Node:
    """A node: `name` with its unit address, such as `serial@10000000`. The root's name is empty.

    Nodes whose `label` a Ref names get a `phandle` when the tree is flattened.
    """

    name: str
    properties: dict[str, Value] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    label: str | None = None

    def __getitem__(self, name: str) -> Value:
        return self.properties[name]

    def __setitem__(self, name: str, value: Value) -> None:
        self.properties[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self.properties

    def add(self, child: Node) -> Node:
        """Append a child and return it."""
        self.children.append(child)
        return child

    def find(self, path: str) -> Node | None:
        """The descendant at `path`, such as `soc/serial@10000000`, or None."""
        node = self
        for part in path.strip("/").split("/"):
            found = next((child for child in node.children if child.name == part), None)
            if part and found is None:
                return None
            node = found or node
        return node

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first, in order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))
