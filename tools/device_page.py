"""`hypervisor devices`: what device types there are, and what is known of one."""

from __future__ import annotations

import click

from hypervisor.config import DeviceTypeError, device_types, find_device
from hypervisor.config.reference import key_rows
from hypervisor.device import Device, Field, Register, registers_of
from tools.table import print_table


def print_types() -> None:
    """Every installed type and its summary."""
    print_table(("TYPE", "WHAT IT IS"), [(name, _summary_of(name)) for name in device_types()])


def print_type(name: str) -> None:
    """Options and registers of one type, installed or `./file.py:Class`. Raises DeviceTypeError."""
    model = find_device(name)
    click.echo(f"{click.style(name, bold=True)}: {summary(model)}")
    if model.compatible:
        click.echo(f"device tree: {', '.join(model.compatible)}")
    if model.interrupt_inputs:
        click.echo(f"interrupt inputs: {model.first_input} to {model.interrupt_inputs}")
    click.echo()
    rows = [tuple(cell.replace("`", "") for cell in row) for row in key_rows(model.Options)]
    print_table(("OPTION", "VALUE", "DEFAULT", "MEANING"), rows)
    registers = list(registers_of(model))
    if registers:
        click.echo()
        header = ("OFFSET", "REGISTER", "BYTES", "ACCESS", "RESET", "FIELDS, MEANING")
        print_table(header, [_register_row(register) for register in registers])


def summary(model: type[Device]) -> str:
    """What a model is, in a line."""
    return model.summary or (model.__doc__ or "").strip().split("\n", 1)[0]


def _summary_of(name: str) -> str:
    try:
        return summary(find_device(name))
    except DeviceTypeError as error:
        return f"cannot be used: {error}"


def _register_row(register: Register) -> tuple[str, ...]:
    name, offset = register.name, f"{register.offset:#06x}"
    if register.is_array:
        name += f"[0..{register.count - 1}]"
        if register.stride != register.size:
            offset += f" +{register.stride:#x}"
    fields = ", ".join(_field(field) for field in register.fields)
    meaning = "; ".join(filter(None, (register.doc, fields)))
    if register.bank is not None:
        meaning = "; ".join(filter(None, (f"bank {register.bank}", meaning)))
    access = register.access + (" w1c" if register.w1c else "")
    return (offset, name, str(register.size), access, f"{register.reset:#x}", meaning)


def _field(field: Field) -> str:
    high = field.lsb + field.width - 1
    bits = str(high) if field.width == 1 else f"{high}:{field.lsb}"
    return f"{field.name}[{bits}]{' (not implemented)' if field.tagged else ''}"
