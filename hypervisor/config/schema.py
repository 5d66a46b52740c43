"""JSON Schema (draft 2020-12) of descriptions, for editors. `check` is the judge, this is help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypervisor.config.faults import FAULTS
from hypervisor.config.models import Document
from hypervisor.config.registry import DeviceTypeError, device_types, find_device
from hypervisor.device import Device

# Editors take 0x8000_0000 for text, as YAML 1.2 has no `_` in numbers.
_NUMBER = r"^(0x[0-9a-fA-F]+(_[0-9a-fA-F]+)*|0o[0-7]+(_[0-7]+)*|[-+]?[0-9]+(_[0-9]+)+)$"
_OWN_TYPE = r"\.py:[A-Za-z_][A-Za-z0-9_]*$"


def installed_devices() -> dict[str, type[Device]]:
    """Every installed device type that can be imported."""
    found = {}
    for name in device_types():
        try:
            found[name] = find_device(name)
        except DeviceTypeError:
            continue
    return found


def description_schema(devices: Mapping[str, type[Device]] | None = None) -> dict[str, Any]:
    """The schema, with the options of `devices` by type name (default: all that are installed)."""
    models = installed_devices() if devices is None else devices
    schema = Document.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema.setdefault("$defs", {})
    branches = []
    for name, model in models.items():
        options = _options_schema(name, model, definitions)
        key = f"device.{name}"
        definitions[key] = options
        branches.append(
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{key}"},
            }
        )
    schema["properties"]["devices"] = {
        "type": "object",
        "description": Document.model_fields["devices"].description,
        "additionalProperties": {
            "type": "object",
            "properties": {
                "type": {
                    "anyOf": [{"enum": list(models)}, {"type": "string", "pattern": _OWN_TYPE}]
                }
            },
            "allOf": branches,
        },
    }
    schema["properties"]["faults"] = _faults_schema(definitions)
    required = schema["required"]
    _relax(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        # What a file with a base leaves out, its base may say.
        "if": {"not": {"required": ["base"]}},
        "then": {"required": required},
    }


def _faults_schema(definitions: dict[str, Any]) -> dict[str, Any]:
    """The list of faults: each is of one kind."""
    for kind, model in FAULTS.items():
        definitions[f"fault.{kind}"] = model.model_json_schema(ref_template="#/$defs/fault.{model}")
    return {
        "type": "array",
        "description": Document.model_fields["faults"].description,
        "items": {
            "type": "object",
            "properties": {"kind": {"enum": list(FAULTS)}},
            "allOf": [
                {
                    "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                    "then": {"$ref": f"#/$defs/fault.{kind}"},
                }
                for kind in FAULTS
            ],
        },
    }


def _options_schema(name: str, model: type[Device], definitions: dict[str, Any]) -> dict[str, Any]:
    """The options of one device type. Models they use are renamed: two types may share names."""
    template = f"#/$defs/device.{name}.{{model}}"
    schema = model.Options.model_json_schema(ref_template=template)
    for part, definition in schema.pop("$defs", {}).items():
        definitions[f"device.{name}.{part}"] = definition
    schema["title"] = name
    schema["description"] = model.summary or (model.__doc__ or "").split("\n", 1)[0]
    return schema


def _relax(schema: Any) -> None:
    """Allow numbers with `_`, and leave requirements within parts to the check."""
    if isinstance(schema, list):
        for each in schema:
            _relax(each)
    elif isinstance(schema, dict):
        if schema.get("type") == "integer":
            schema["type"] = ["integer", "string"]
            schema["pattern"] = _NUMBER
        if isinstance(schema.get("properties"), dict) and "if" not in schema:
            schema.pop("required", None)
        for key, each in schema.items():
            if key not in ("if", "default", "enum", "const"):
                _relax(each)
