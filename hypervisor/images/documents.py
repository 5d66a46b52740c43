"""YAML files checked by pydantic models, read as machine descriptions are."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from hypervisor import config
from hypervisor.config.node import Node
from hypervisor.config.problem import Mark, Problem
from hypervisor.config.sentences import validate
from hypervisor.config.yaml_loader import MAX_BYTES, parse_yaml
from hypervisor.images.errors import DescriptionError


class Strict(BaseModel):
    """Base of every model here: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=Strict)


def load(path: Path) -> Node:
    """Read one YAML file. Raises DescriptionError."""
    try:
        with path.open("rb") as file:
            return parse_yaml(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise wrong([Problem(Mark(str(path)), f"cannot be read: {error.strerror}")]) from None
    except config.DescriptionError as error:
        raise wrong(error.problems) from None


def check(model: type[M], node: Node) -> M:
    """The document as `model`. Raises DescriptionError naming every mistake and its place."""
    found, problems = validate(model, node)
    if found is None:
        raise wrong(problems)
    return found


def wrong(problems: list[Problem]) -> DescriptionError:
    """The error that reports these problems in the order of their places."""
    return DescriptionError(str(config_problem) for config_problem in _ordered(problems))


def _ordered(problems: list[Problem]) -> list[Problem]:
    return config.DescriptionError(problems).problems
