"""The description's reference in Markdown, written from the models and the devices' options.

`python -m hypervisor.config.reference > docs/description.md` writes it anew.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hypervisor.config.faults import FAULTS, Fault
from hypervisor.config.models import Document
from hypervisor.config.schema import installed_devices
from hypervisor.config.sentences import models_at
from hypervisor.device import Device, FileRef, Options

_INTRODUCTION = """# The machine description

A machine is one YAML file. `hypervisor check FILE` reports everything that is wrong with it at
once; `hypervisor schema` prints a JSON Schema for editors. This page is generated from the code
that checks descriptions.

## How values are written

- YAML 1.2, core schema: only `true` and `false` are booleans, so `off`, `yes` and
  `52:54:00:12:34:56` are text. A key that is said twice is an error.
- Numbers may be grouped with `_` and written in hexadecimal: `0x8000_0000`.
- Sizes have binary units: `512M` is 536870912 bytes; `64K`, `1G` and `2 MiB` work too.
- Times have a unit: `100us`, `2ms`, `5s`.
- Files are relative to the file that names them. `image:NAME/FILE` is a file of the image
  catalogue (`hypervisor image list`).
- `base: other.yaml` inherits from another description, relative to this file. Mappings are merged,
  lists and single values replaced, and a key whose value is `null` is taken away.
- `--set a.b.c=VALUE` on the command line replaces one value; VALUE is YAML, and an empty one takes
  the key away. Files are then relative to the current directory.
- A description that we ship is found by name, such as `configs/riscv64-debian.yaml`, wherever no
  file of that name is.
"""

_DEVICES = """## devices

Each entry of `devices` is named by its key and has a `type` and that type's options. `irq: plic.10`
is input 10 of the device named `plic`. A device of your own is `type: ./blinker.py:Blinker`: class
`Blinker` in `blinker.py` beside the description.

Every device has these options:
"""

_FAULTS = """## faults

A list of what is to go wrong, for testing drivers, such as
`- {kind: interrupt.lost, device: disk0, nth: 5}`. Runs with faults repeat as exactly as runs
without. Every fault has these keys:
"""


def reference(devices: Mapping[str, type[Device]] | None = None) -> str:
    """The page, for `devices` by type name (default: all that are installed)."""
    models = installed_devices() if devices is None else devices
    lines = [_INTRODUCTION, "## The top level", "", *_table(Document), ""]
    for name in Document.model_fields:
        for part in models_at(Document, (name,)):
            lines += _section(f"## {name}", part)
            for inner, below in _parts(part):
                lines += _section(f"### {name}.{inner}", below)
    lines += [_DEVICES, *_table(Options), ""]
    for type_name, model in sorted(models.items()):
        lines += _device(type_name, model)
    lines += [_FAULTS, *_table(Fault), ""]
    for kind, fault in FAULTS.items():
        own = [key for key in fault.model_fields if key not in Fault.model_fields]
        lines += [f"### {kind}", "", " ".join((fault.__doc__ or "").split()), ""]
        lines += [*_table(fault, own), ""] if own else []
    return "\n".join(lines).rstrip() + "\n"


def key_rows(
    model: type[BaseModel], names: list[str] | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """Key, value, default and meaning of a model's keys (those in `names`), code in backticks."""
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        if names is None or name in names:
            value = _value(schema["properties"][name], field)
            default = _default(name, field, schema["properties"][name])
            yield f"`{name}`", value, default, _meaning(field)


def _section(title: str, model: type[BaseModel]) -> list[str]:
    return [title, "", (model.__doc__ or "").strip(), "", *_table(model), ""]


def _parts(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name in model.model_fields:
        # Position 0 reaches the members of a list.
        for below in models_at(model, (name, 0)):
            yield name, below


def _device(name: str, model: type[Device]) -> list[str]:
    own = [field for field in model.Options.model_fields if field not in Options.model_fields]
    lines = [f"### {name}", "", model.summary or (model.__doc__ or "").strip(), ""]
    if own:
        lines += [*_table(model.Options, own), ""]
    return lines


def _table(model: type[BaseModel], names: list[str] | None = None) -> list[str]:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for cells in key_rows(model, names):
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return rows


def _meaning(field: FieldInfo) -> str:
    if field.description:
        return field.description
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return (kind.__doc__ or "").strip().split("\n", 1)[0]
    return ""


def _value(schema: dict[str, Any], field: FieldInfo) -> str:
    if _mentions(field.annotation, FileRef):
        return "file"
    return " or ".join(dict.fromkeys(_kinds(schema)))


def _mentions(annotation: Any, wanted: type) -> bool:
    if annotation is wanted:
        return True
    return any(_mentions(each, wanted) for each in typing.get_args(annotation))


def _kinds(schema: dict[str, Any]) -> Iterator[str]:
    """What a value may be, in words."""
    if "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _kinds(each)
    elif "const" in schema or "enum" in schema:
        for each in [schema["const"]] if "const" in schema else schema["enum"]:
            yield f"`{each}`"
    elif "$ref" in schema:
        yield "mapping"
    else:
        kind = schema.get("type", "any")
        if kind != "null":
            yield _KINDS.get(kind, kind) + _bounds(schema)


_KINDS = {"integer": "number", "string": "text", "boolean": "true or false"} | {
    "array": "list",
    "object": "mapping",
}


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    return ""


def _default(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    if field.is_required() or (name == "type" and field.default == ""):
        return "required"
    value = schema.get("default", field.get_default(call_default_factory=True))
    if value in (None, "", (), []) or isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, int) and value % (1 << 20) == 0 and "anyOf" in schema:
        return f"`{value >> 20}M`"
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
