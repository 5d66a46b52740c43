"""YAML documents that remember where each value stood, checked by pydantic models.

Scalars follow the core schema of YAML 1.2 (section 10.3.2): `off` and `0755` mean the string "off"
and the number 755, and a key given twice is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hypervisor.images.errors import DescriptionError, nearest

Where = tuple[str | int, ...]


class Strict(BaseModel):
    """Base of every model here: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=Strict)


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, with the line and column (from 1) of every key and item."""

    path: Path
    data: Any
    positions: dict[Where, tuple[int, int]]

    def place(self, where: Where) -> str:
        """`file:line:col` of the value at `where`, or of the closest thing that encloses it."""
        while where and where not in self.positions:
            where = where[:-1]
        line, column = self.positions.get(where, (1, 1))
        return f"{self.path}:{line}:{column}"


def load(path: Path) -> Document:
    """Read one YAML file. Raises DescriptionError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DescriptionError([f"cannot read {path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise DescriptionError([f"{path} is not UTF-8 text (byte {error.start})"]) from None
    positions: dict[Where, tuple[int, int]] = {}
    try:
        loader = _CoreLoader(text)
        root = loader.get_single_node()
        data = None if root is None else _plain(loader, root, (), positions, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise DescriptionError([f"{path}{at}: not valid YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise DescriptionError([f"{path}: not valid YAML: {error}"]) from None
    return Document(path, data, positions)


def check(model: type[M], document: Document) -> M:
    """The document as `model`. Raises DescriptionError naming every mistake and its place."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        known = _field_names(model)
        sentences = [_sentence(document, problem, known) for problem in error.errors()]
        raise DescriptionError(sentences) from None


def _sentence(document: Document, problem: Any, known: set[str]) -> str:
    where: Where = tuple(problem["loc"])
    place = document.place(where)
    name = ".".join(str(part) for part in where) or "the document"
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"{place}: unknown key '{where[-1]}'{nearest(str(where[-1]), known)}"
    if kind == "missing":
        return f"{place}: '{name}' is missing"
    if kind == "value_error":
        return f"{place}: '{name}': {problem['ctx']['error']}"
    message = problem["msg"]
    return f"{place}: '{name}': {message[0].lower()}{message[1:]}, not {problem['input']!r}"


def _field_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    todo, seen = [model], set[type[BaseModel]]()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        names |= set(current.model_fields)
        for field in current.model_fields.values():
            todo += _models_in(field.annotation)
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the implicit types of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


def _implicit(tag: str, pattern: str, first: str) -> None:
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_implicit("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_implicit("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789")
_implicit("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789")
_implicit("null", r"^(?:~|null|Null|NULL|)$", "~nN")
_CoreLoader.yaml_implicit_resolvers[""] = _CoreLoader.yaml_implicit_resolvers["~"]


def _plain(
    loader: Any, node: Any, where: Where, positions: dict[Where, tuple[int, int]], path: Path
) -> Any:
    positions.setdefault(where, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            at = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key in result:
                raise DescriptionError([f"{path}:{at[0]}:{at[1]}: the key '{key}' is given twice"])
            positions[(*where, key)] = at
            result[key] = _plain(loader, value_node, (*where, key), positions, path)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(loader, item, (*where, index), positions, path)
            for index, item in enumerate(node.value)
        ]
    if node.tag == "tag:yaml.org,2002:int":
        text = node.value
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text, 10)
    return loader.construct_object(node, deep=True)
