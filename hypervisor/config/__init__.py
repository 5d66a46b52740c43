"""The machine description: YAML to a checked Description, with every mistake at its place."""

from hypervisor.config.description import Description, DeviceEntry, Interrupt
from hypervisor.config.files import check_catalogue
from hypervisor.config.loader import load_description, load_text
from hypervisor.config.problem import DescriptionError, Mark, Problem
from hypervisor.config.registry import DeviceTypeError, device_types, find_device

__all__ = [
    "Description",
    "DescriptionError",
    "DeviceEntry",
    "DeviceTypeError",
    "Interrupt",
    "Mark",
    "Problem",
    "check_catalogue",
    "device_types",
    "find_device",
    "load_description",
    "load_text",
]
