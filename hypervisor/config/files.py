"""Files that a description names: relative to the file that says them, and there to be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from hypervisor.config.description import IMAGE
from hypervisor.config.node import Node, Path
from hypervisor.config.problem import Problem, suggestion
from hypervisor.config.sentences import dotted
from hypervisor.device import FileRef

CheckImage = Callable[[str], str | None]
"""An `image:` reference to the sentence that says what is wrong with it, None if nothing is."""


def check_catalogue(reference: str) -> str | None:
    """CheckImage by the image catalogue: whether it knows the image, fetched or not."""
    from hypervisor.images import Catalogue, DescriptionError, ImageError, parse_reference

    try:
        Catalogue.default().file(parse_reference(reference))
    except DescriptionError:
        # The catalogue itself is wrong, which is no fault of this description.
        return None
    except ImageError as error:
        return str(error)
    return None


def file_references(model: BaseModel, path: Path = ()) -> Iterator[tuple[Path, FileRef]]:
    """Every file that a checked part of a description names, and where."""
    for name in type(model).model_fields:
        yield from _references(getattr(model, name), (*path, name))


def _references(value: Any, path: Path) -> Iterator[tuple[Path, FileRef]]:
    if isinstance(value, FileRef):
        yield path, value
    elif isinstance(value, BaseModel):
        yield from file_references(value, path)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _references(item, (*path, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _references(item, (*path, name))


def locate(node: Node, reference: str) -> str:
    """The path to open for a file that `node` says; `image:` references stay."""
    if reference.startswith(IMAGE):
        return reference
    return os.path.normpath(os.path.join(node.directory(), os.path.expanduser(reference)))


def located(root: Node, references: list[Path]) -> Node:
    """`root` with the files at `references` as paths from the file system's root."""
    for path in references:
        root = _replace(root, path)
    return root


def _replace(node: Node, path: Path) -> Node:
    if not path:
        value = locate(node, node.value)
        if not value.startswith(IMAGE):
            value = os.path.abspath(value)
        return Node(value, node.mark, node.key_mark, node.text)
    child = node.child(path[0])
    if child is None:
        # A default of the model: nobody said it, so it is relative to nothing.
        return node
    copy: Any = dict(node.value) if isinstance(node.value, dict) else list(node.value)
    copy[path[0]] = _replace(child, path[1:])
    return Node(copy, node.mark, node.key_mark, node.text)


def file_problem(
    node: Node, path: Path, reference: FileRef, check_image: CheckImage | None
) -> Problem | None:
    """What is wrong with the file named at `path`, whose value is `node`."""
    name = dotted(path)
    of_host = not reference.startswith(IMAGE)
    if not of_host:
        said = _image_sentence(reference, check_image)
    else:
        output = getattr(type(reference), "output", False)
        file = locate(node, reference)
        said = _output_sentence(file) if output else _input_sentence(file)
    return Problem(node.mark, f"{name}: {said}", of_host) if said else None


def _image_sentence(reference: str, check_image: CheckImage | None) -> str | None:
    name, _, file = reference.removeprefix(IMAGE).partition("/")
    if not name or not file:
        return f"'{reference}' is not an image reference such as image:NAME/FILE"
    return check_image(reference) if check_image is not None else None


def _input_sentence(file: str) -> str | None:
    try:
        # Opened, because only that says whether it can be; not waiting, for it may be a pipe.
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"no file '{file}'{_nearest(file)}"
    except OSError as error:
        return f"cannot read '{file}': {os.strerror(error.errno or errno.EIO)}"
    except ValueError:
        return "a file's name cannot hold a zero byte"
    return f"'{file}' is a directory, not a file" if os.path.isdir(file) else None


def _output_sentence(file: str) -> str | None:
    directory = os.path.dirname(file) or "."
    return None if os.path.isdir(directory) else f"no directory '{directory}' to write '{file}' in"


def _nearest(file: str) -> str:
    directory, name = os.path.split(file)
    try:
        names = os.listdir(directory or ".")
    except OSError:
        return f"; there is no directory '{directory}'"
    return suggestion(name, sorted(names), most=0)
