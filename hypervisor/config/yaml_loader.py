"""YAML text to Nodes: the core schema of YAML 1.2.2, every value with its file:line:col.

PyYAML parses; what the text means is decided here. Duplicate keys, several documents, unknown tags
and whatever would take unbounded memory (deep nesting, aliases of aliases) are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from hypervisor.config.node import Node
from hypervisor.config.problem import DescriptionError, Mark, Problem
from hypervisor.config.scalars import CORE_TAG, ScalarError, resolve, shown_tag
from hypervisor.config.syntax import syntax_problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000
"""Values in a document, counting each use of an alias."""

# The C parser is a hundred times faster, but not every build of PyYAML has it.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Listed rather than negated: compiling the large ranges would take 10 ms.
UNPRINTABLE = re.compile(
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ufeff\\ufffe\\uffff]|[\\ud800-\\udfff]"
)
"""What may not stand in YAML text (section 5.1, "Character set")."""


def parse_yaml(data: bytes | str, file: str, override: bool = False) -> Node:
    """The document in `data`; `file` names it in marks. An empty document is null.

    With `override`, marks say `file` alone. Raises DescriptionError.
    """
    return _Composer(file, override).compose(data)


class _Composer:
    """Turns one document's parser events into Nodes."""

    def __init__(self, file: str, override: bool) -> None:
        self.file = file
        self.override = override
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Node, int] | None] = {}
        """Value and number of values of each anchor; None while it is still being read."""
        self.values = 0

    def compose(self, data: bytes | str) -> Node:
        text = self._decode(data)
        try:
            node = self._document(yaml.parse(text, Loader=_Parser))
        except yaml.MarkedYAMLError as error:
            line, column, sentence = syntax_problem(error, text)
            self._fail(self._mark(line, column), sentence)
        except yaml.YAMLError:
            self._fail(Mark(self.file, override=self.override), "is not YAML text")
        if self.problems:
            raise DescriptionError(self.problems)
        return node

    def _decode(self, data: bytes | str) -> str:
        whole = Mark(self.file, override=self.override)
        if len(data) > MAX_BYTES:
            self._fail(whole, f"is larger than {MAX_BYTES >> 20} MiB, too large for a description")
        if isinstance(data, bytes):
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                # The decoder's own copy: it has no byte order mark, so its positions fit.
                before = error.object[: error.start].decode()
                bad = error.object[error.start]
                self._fail(_place(before, self._mark), f"byte {bad:#04x} is not UTF-8 text")
        else:
            text = data
        unprintable = UNPRINTABLE.search(text)
        if unprintable:
            self._fail(
                _place(text[: unprintable.start()], self._mark),
                f"the character U+{ord(unprintable[0]):04X} is not allowed in YAML",
            )
        return text

    def _document(self, events: Iterator[Any]) -> Node:
        next(events)
        if isinstance(next(events), yaml.StreamEndEvent):
            return Node(None, self._mark(0, 0), self._mark(0, 0))
        node = self._value(events, next(events), None, 0)
        next(events)
        extra = next(events)
        if isinstance(extra, yaml.DocumentStartEvent):
            self._fail(self._at(extra), "a second document begins here; a description is one")
        return node

    def _value(self, events: Iterator[Any], event: Any, key: Mark | None, depth: int) -> Node:
        mark = self._at(event)
        self.values += 1
        if self.values > MAX_VALUES:
            self._fail(mark, f"more than {MAX_VALUES} values are too many for a description")
        if depth > MAX_DEPTH:
            self._fail(mark, f"values nested more than {MAX_DEPTH} deep are not allowed")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), mark, key or mark)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        before = self.values
        node = Node(None, mark, key or mark)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(node, event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, "seq")
            node.value = self._items(events, depth)
        else:
            self._check_tag(event, "map")
            node.value = self._entries(events, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.values - before)
        return node

    def _alias(self, name: str, mark: Mark, key: Mark) -> Node:
        if name not in self.anchors:
            self._fail(mark, f"no anchor '&{name}' comes before this alias")
        anchored = self.anchors[name]
        if anchored is None:
            self._fail(mark, f"the alias '*{name}' stands inside its own anchor")
        node, values = anchored
        self.values += values
        if self.values > MAX_VALUES:
            self._fail(mark, f"aliases repeat more than {MAX_VALUES} values")
        return Node(node.value, node.mark, key, node.text)

    def _scalar(self, node: Node, event: Any) -> None:
        node.text = event.value
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            self._fail(node.mark, "this escape is not a Unicode character")
        try:
            node.value = resolve(event.value, event.tag, event.implicit[0])
        except ScalarError as error:
            self.problems.append(Problem(node.mark, str(error)))

    def _items(self, events: Iterator[Any], depth: int) -> list[Node]:
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._value(events, event, None, depth + 1))
        return items

    def _entries(self, events: Iterator[Any], depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._value(events, event, None, depth + 1)
            name = self._key_name(key, event)
            value = self._value(events, next(events), key.mark, depth + 1)
            if name in entries:
                first = entries[name].key_mark
                said = f"'{name}' is said twice; the first is on line {first.line}"
                self.problems.append(Problem(key.mark, said))
            entries.setdefault(name, value)
        return entries

    def _key_name(self, key: Node, event: Any) -> str:
        if isinstance(key.value, dict | list):
            self.problems.append(Problem(key.mark, "a key must be a name, not a list or a mapping"))
            return ""
        if not key.text:
            self.problems.append(Problem(key.mark, "a key is missing before ':'"))
        if key.text == "<<":
            said = "merge keys ('<<') are not part of YAML 1.2; use 'base: FILE' to inherit"
            self.problems.append(Problem(key.mark, said))
        return key.text

    def _check_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", f"{CORE_TAG}{kind}"):
            said = f"the tag '{shown_tag(event.tag)}' is not known here"
            self.problems.append(Problem(self._at(event), said))

    def _at(self, event: Any) -> Mark:
        return self._mark(event.start_mark.line, event.start_mark.column)

    def _mark(self, line: int, column: int) -> Mark:
        if self.override:
            return Mark(self.file, override=True)
        return Mark(self.file, line + 1, column + 1)

    def _fail(self, mark: Mark, sentence: str) -> NoReturn:
        raise DescriptionError([*self.problems, Problem(mark, sentence)])


def _place(before: str, mark: Any) -> Mark:
    """The mark of the character that follows the text `before`."""
    lines = before.splitlines() or [""]
    if before.endswith(("\n", "\r")):
        lines.append("")
    found: Mark = mark(len(lines) - 1, len(lines[-1]))
    return found
