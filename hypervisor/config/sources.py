"""Description files: found, inherited from (`base:`) and overridden (`--set`)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

from hypervisor.config.node import Node, merge, prune
from hypervisor.config.problem import DescriptionError, Mark, Problem, suggestion
from hypervisor.config.yaml_loader import MAX_BYTES, parse_yaml

MAX_BASES = 16
SHIPPED = "configs"
"""The package that holds the descriptions we ship."""


def read_description(path: str, overrides: Sequence[str] = ()) -> Node:
    """The document at `path` with all it inherits, then `overrides` laid over it.

    Raises DescriptionError.
    """
    found = find_file(path, "")
    if found is None:
        raise DescriptionError(
            [Problem(Mark(path), f"no such file{_nearest_file(path)}", host=True)]
        )
    return read_text(_read(found, Mark(path)), found, overrides)


def read_text(data: bytes | str, file: str, overrides: Sequence[str] = ()) -> Node:
    """Like `read_description` for text that stands for the file named `file`."""
    layers, problems = [_with_bases(data, file, ())], []
    for override in overrides:
        try:
            layers.append(parse_override(override))
        except DescriptionError as error:
            problems += error.problems
    document = layers[0]
    for layer in layers[1:]:
        problems += _scalars_in_the_way(document, layer)
        document = merge(document, layer)
    if problems:
        raise DescriptionError(problems)
    return prune(document)


def parse_override(text: str) -> Node:
    """`a.b.c=value`, the value in YAML, as a document with only that in it."""
    path, equals, value = text.partition("=")
    mark = Mark(f"--set {path}", override=True)
    steps = path.split(".")
    if not equals:
        raise DescriptionError([Problem(mark, "has no value; write --set PATH=VALUE")])
    if not all(steps):
        raise DescriptionError([Problem(mark, "a name is missing; write --set a.b.c=VALUE")])
    if steps == ["base"]:
        raise DescriptionError([Problem(mark, "base cannot be set; it belongs in a file")])
    node = parse_yaml(value, mark.file, override=True)
    for step in reversed(steps):
        node = Node({step: node}, mark, mark)
    return node


def find_file(path: str, directory: str) -> str | None:
    """Where `path`, said in a file of `directory`, is: there, or among the shipped descriptions."""
    beside = os.path.normpath(os.path.join(directory, path))
    if os.path.exists(beside):
        return beside
    if os.path.dirname(path) in ("", SHIPPED):
        shipped = os.path.join(shipped_directory(), os.path.basename(path))
        if os.path.isfile(shipped):
            return shipped
    return None


def shipped_directory() -> str:
    """The directory of the descriptions that are installed with us."""
    spec = importlib.util.find_spec(SHIPPED)
    places = spec.submodule_search_locations if spec is not None else None
    return next(iter(places), "") if places else ""


def _with_bases(data: bytes | str, file: str, above: tuple[str, ...]) -> Node:
    node = parse_yaml(data, file)
    whole = Mark(file, 1, 1)
    if node.value is None:
        raise DescriptionError(
            [Problem(whole, "is empty; a description begins with machine: NAME")]
        )
    if not node.is_mapping:
        raise DescriptionError([Problem(node.mark, "must be a mapping such as machine: NAME")])
    base = node.value.pop("base", None)
    if base is None or base.value is None:
        return node
    return merge(_base(base, (*above, os.path.realpath(file))), node)


def _base(base: Node, above: tuple[str, ...]) -> Node:
    if not isinstance(base.value, str):
        raise DescriptionError([Problem(base.mark, "base: must be the name of one file")])
    found = find_file(base.value, base.directory())
    if found is None:
        wanted = os.path.normpath(os.path.join(base.directory(), base.value))
        said = f"base: no file '{wanted}'{_nearest_file(wanted)}"
        raise DescriptionError([Problem(base.mark, said, host=True)])
    if os.path.realpath(found) in above:
        raise DescriptionError([Problem(base.mark, f"base: '{found}' inherits from itself")])
    if len(above) >= MAX_BASES:
        said = f"base: more than {MAX_BASES} files inherit from each other"
        raise DescriptionError([Problem(base.mark, said)])
    return _with_bases(_read(found, base.mark), found, above)


def _read(path: str, mark: Mark) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DescriptionError(
            [Problem(mark, f"cannot read {path}: {reason}", host=True)]
        ) from None


def _scalars_in_the_way(document: Node, layer: Node) -> list[Problem]:
    """An override's path must lead through mappings."""
    path: tuple[str, ...] = ()
    below: Node | None = document
    while below is not None and layer.is_mapping and len(layer.value) == 1:
        if path and not below.is_mapping and below.value is not None:
            said = f"'{'.'.join(path)}' is not a mapping, so nothing below it can be set"
            return [Problem(layer.mark, said)]
        name, layer = next(iter(layer.value.items()))
        path, below = (*path, name), below.child(name)
    return []


def _nearest_file(path: str) -> str:
    directory, name = os.path.split(path)
    names = _descriptions(directory or ".")
    if directory in ("", SHIPPED):
        names |= _descriptions(shipped_directory())
    return suggestion(name, sorted(names), most=0)


def _descriptions(directory: str) -> set[str]:
    try:
        return {name for name in os.listdir(directory) if name.endswith((".yaml", ".yml"))}
    except (OSError, ValueError):
        return set()
