"""Plain sentences for what a pydantic model rejects, each at its place in the description."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from hypervisor.config.node import Node, Path
from hypervisor.config.problem import Problem, suggestion

M = TypeVar("M", bound=BaseModel)

# What a value must be, by pydantic's error type; {names} are the error's own.
_EXPECTED: dict[str, str] = {
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "string_type": "text",
    "string_sub_type": "text",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_not_ascii": "text in ASCII",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "none_required": "empty",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "bytes_type": "text",
    "date_type": "a date such as 2024-01-31",
    "date_parsing": "a date such as 2024-01-31",
    "datetime_type": "a time such as 2024-01-31T12:00:00Z",
    "datetime_parsing": "a time such as 2024-01-31T12:00:00Z",
    "datetime_from_date_parsing": "a time such as 2024-01-31T12:00:00Z",
}
_LARGE = 0x1000


def validate(model: type[M], node: Node, path: Path = ()) -> tuple[M | None, list[Problem]]:
    """`node`, found at `path` in its document, as a `model`, or what is wrong with it.

    Values are taken strictly, as in a JSON document: text is no number, 1 is not true.
    """
    try:
        return model.model_validate_json(to_json(node.plain()), strict=True), []
    except ValidationError as error:
        return None, list(_problems(error, model, node, path))


def partial(model: type[M], node: Node) -> M | None:
    """`node` as a `model` without the keys that are wrong, if that is enough for one."""
    try:
        return model.model_validate_json(to_json(node.plain()), strict=True)
    except ValidationError as error:
        wrong = {step for details in error.errors() for step in details["loc"][:1]}
    if not node.is_mapping or not wrong:
        return None
    kept = {key: child for key, child in node.value.items() if key not in wrong}
    return validate(model, Node(kept, node.mark, node.key_mark))[0]


def dotted(path: Iterable[str | int]) -> str:
    return ".".join(map(str, path))


def _problems(
    error: ValidationError, model: type[BaseModel], root: Node, path: Path
) -> Iterator[Problem]:
    # A union reports each of its branches, below the same value: one problem says them all.
    groups: dict[Path, list[tuple[Any, Path]]] = {}
    for details in error.errors(include_url=False):
        steps = tuple(step for step in details["loc"] if step != "[key]")
        node, missing = root.deepest(steps)
        place = steps[: len(steps) - len(missing)]
        key = (*place, steps[-1]) if details["type"] == "missing" else place
        groups.setdefault(key, []).append((details, steps))
    for key, group in groups.items():
        details, steps = group[0]
        node, _ = root.deepest(key)
        name = dotted((*path, *key))
        if details["type"] == "extra_forbidden":
            parent = keys_at(model, steps[:-1])
            said = f"no such key{suggestion(str(steps[-1]), parent)}"
            yield Problem(node.key_mark, f"{name}: {said}")
        elif details["type"] == "missing":
            yield Problem(node.key_mark, f"{name}: is missing{_meaning(model, steps)}")
        else:
            sentence = _sentence([details for details, _ in group], node)
            mark = node.key_mark if details["loc"][-1:] == ("[key]",) else node.mark
            yield Problem(mark, f"{name}: {sentence}" if name else sentence)


def _sentence(group: Sequence[Any], node: Node) -> str:
    own = [str(d["ctx"]["error"]) for d in group if d["type"] in ("value_error", "assertion_error")]
    if own:
        return "; ".join(dict.fromkeys(own))
    expected = list(dict.fromkeys(expectation(details) for details in group))
    return f"must be {' or '.join(expected)}, not {shown(node)}{_hint(expected, node)}"


def expectation(details: Any) -> str:
    """What the value must be instead, to follow "must be"."""
    context = details.get("ctx") or {}
    kind = details["type"]
    if kind in ("too_short", "too_long"):
        bound = ("at least", "min") if kind == "too_short" else ("at most", "max")
        return f"a list of {bound[0]} {context[f'{bound[1]}_length']}"
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    if kind not in _EXPECTED:
        return "another kind of value"
    readable = {name: _bound(value) for name, value in context.items()}
    return _EXPECTED[kind].format(**readable)


def _bound(value: Any) -> Any:
    """Round binary numbers, such as limits of addresses, read better in hexadecimal."""
    round_ = isinstance(value, int) and value >= _LARGE and value & (value - 1) == 0
    return f"{value:#x}" if round_ else value


def shown(node: Node) -> str:
    """A value as its writer would recognise it."""
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if node.value is None:
        return "nothing"
    text = node.text if len(node.text) <= 60 else f"{node.text[:57]}..."
    return f"'{text}'" if isinstance(node.value, str) else text


def _hint(expected: list[str], node: Node) -> str:
    if isinstance(node.value, bool | int | float) and any(each == "text" for each in expected):
        return f"; write '{node.text}' in quotes"
    if isinstance(node.value, str) and "true or false" in expected:
        meant = {"on": "true", "yes": "true", "off": "false", "no": "false"}
        if node.value.lower() in meant:
            return f"; write {meant[node.value.lower()]}"
    return ""


def _meaning(model: type[BaseModel], steps: Path) -> str:
    for parent in models_at(model, steps[:-1]):
        field = parent.model_fields.get(str(steps[-1]))
        if field is not None and field.description:
            return f" ({field.description})"
    return ""


def keys_at(model: type[BaseModel], steps: Path) -> list[str]:
    """The keys that a value at `steps` below a `model` may have."""
    return [name for found in models_at(model, steps) for name in found.model_fields]


def models_at(model: type[BaseModel], steps: Path) -> list[type[BaseModel]]:
    """The models that a value at `steps` may be."""
    found: list[Any] = [model]
    for step in steps:
        below: list[Any] = []
        for each in found:
            if isinstance(each, type) and issubclass(each, BaseModel):
                field = each.model_fields.get(str(step))
                below += _alternatives(field.annotation) if field else []
            else:
                below += [part for arg in typing.get_args(each) for part in _alternatives(arg)]
        # A step can also name a branch of a union, which changes nothing about the value.
        found = below or found
    return [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)]


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, or the annotation itself, without what only annotates."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return [part for arg in typing.get_args(annotation) for part in _alternatives(arg)]
    return [annotation]
