from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hypervisor.config.reference import reference
from hypervisor.config.schema import description_schema, installed_devices
from hypervisor.device import Device


class Link(BaseModel):
    speed: int = 1


class FirstNic(Device):
    class Options(Device.Options):
        link: Link = Link()

    type = "fake.first"


class SecondNic(Device):
    class Options(Device.Options):
        link: Link = Link()

    type = "fake.second"


@pytest.fixture
def schema(fakes: dict[str, type[Device]]) -> dict[str, Any]:
    return description_schema(fakes)


def test_each_type_chooses_its_options(schema: dict[str, Any]) -> None:
    branches = schema["properties"]["devices"]["additionalProperties"]["allOf"]
    chosen = {each["if"]["properties"]["type"]["const"]: each["then"]["$ref"] for each in branches}
    assert chosen["fake.uart"] == "#/$defs/device.fake.uart"
    assert "speed" in schema["$defs"]["device.fake.uart"]["properties"]


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(description_schema({"fake.first": FirstNic, "fake.second": SecondNic}))
    targets = {f"#/$defs/{name}" for name in json.loads(text)["$defs"]}
    assert set(re.findall(r'"\$ref": "([^"]*)"', text)) <= targets
    assert {"#/$defs/device.fake.first.Link", "#/$defs/device.fake.second.Link"} <= targets


def test_numbers_may_be_grouped(schema: dict[str, Any]) -> None:
    at = schema["$defs"]["Region"]["properties"]["at"]
    assert at["type"] == ["integer", "string"]
    assert re.search(at["pattern"], "0x8000_0000")
    assert not re.search(at["pattern"], "RAM")


def test_sizes_may_have_units(schema: dict[str, Any]) -> None:
    size = schema["$defs"]["Region"]["properties"]["size"]
    assert {"type": "string"} in size["anyOf"]


def test_only_a_file_without_base_must_say_everything(schema: dict[str, Any]) -> None:
    assert "required" not in schema
    assert schema["if"] == {"not": {"required": ["base"]}}
    assert schema["then"] == {"required": ["machine", "cpu", "memory"]}


def test_reference_shows_every_key_and_option(fakes: dict[str, type[Device]]) -> None:
    page = reference(fakes)
    for line in (
        "| `harts` | number, 1 to 8 | `1` | number of harts (cores) |",
        "| `strict` | true or false | `false` | stop where the guest touches what does not exist |",
        "| `kernel` | file |  | Linux image, ELF program or raw binary; its kind is detected |",
        "### boot.load",
        "### fake.uart",
        "| `speed` | number, 1 to 115200 | `9600` | bits a second |",
    ):
        assert line in page.splitlines()


def test_default_time_is_shown_as_one_writes_it(fakes: dict[str, type[Device]]) -> None:
    assert "| `epoch` | text | `2024-01-01T00:00:00Z` |" in reference(fakes)


def test_installed_devices_are_all_documented() -> None:
    page = reference()
    assert installed_devices()
    assert all(f"### {name}\n" in page for name in installed_devices())


def test_reference_page_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "description.md"
    assert page.read_text() == reference(), "write it anew: python -m hypervisor.config.reference"
