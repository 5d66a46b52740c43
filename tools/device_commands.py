"""`hypervisor device`: commands about one device model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hypervisor.device import Device
    from hypervisor.device.testing.conformance import Check, Subject


@click.group()
def device() -> None:
    """Work on a device model."""


@device.command()
@click.argument("device_type", metavar="TYPE")
@click.option(
    "--set", "given", multiple=True, metavar="OPTION=VALUE", help="An option that it needs."
)
def test(device_type: str, given: tuple[str, ...]) -> int:
    """Check a device model without a CPU: what follows from its register table.

    TYPE is an installed type or one of your own, ./file.py:Class. Exit code: 0 all is right; 1
    something is not.
    """
    from hypervisor.config import find_device
    from hypervisor.device.testing.conformance import CHECKS, Subject

    model = find_device(device_type)
    failed = 0
    with Subject(model, **_options(model, given)) as subject:
        for check in CHECKS:
            said = _failure(check, subject)
            failed += said is not None
            mark = click.style("ok", fg="green") if said is None else click.style("no", fg="red")
            click.echo(f"{mark}  {check.__name__.replace('_', ' ')}{f': {said}' if said else ''}")
    count = len(CHECKS)
    click.echo(f"{device_type}: {count - failed} of {count} checks passed")
    return 1 if failed else 0


def _options(model: type[Device], given: tuple[str, ...]) -> dict[str, Any]:
    """The options of `OPTION=VALUE`s, as the model takes them."""
    from pydantic import ValidationError

    from hypervisor.config.scalars import plain_value

    options = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.BadParameter(f"'{each}' is not OPTION=VALUE", param_hint="'--set'")
        options[name] = plain_value(value)
    try:
        model.Options.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(map(str, first["loc"]))
        raise click.BadParameter(f"{option}: {first['msg']}", param_hint="'--set'") from None
    return options


def _failure(check: Check, subject: Subject) -> str | None:
    """What is wrong; a model of the user's own may raise anything."""
    try:
        check(subject)
    except AssertionError as error:
        return str(error)
    except Exception as error:
        return f"it raised {type(error).__name__}: {error}"
    finally:
        subject.close()
    return None
