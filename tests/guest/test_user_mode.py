"""What a program at EL0 may do, and the signals that Linux makes of what it may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

CHECKS = 25


@pytest.mark.parametrize("harts", [1, 4])
def test_program_has_what_the_architecture_gives_it(
    harts: int, restored: Callable[..., Machine], ask: Callable[..., str]
) -> None:
    machine = restored(harts, "aarch64")

    answer = ask(machine, "/usr/test/user")

    assert answer.splitlines()[-1] == "user passed", answer
    assert answer.count(": ok") == CHECKS
