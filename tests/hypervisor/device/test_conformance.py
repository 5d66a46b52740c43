"""The generated checks find what they are there to find."""

import pytest

from hypervisor.device import Device, Options, Register
from hypervisor.device.testing import conformance
from hypervisor.device.testing.conformance import CHECKS, Subject


class Sound(Device):
    """A model with nothing wrong."""

    summary = "A sound device"
    A = Register(0x0, writable=0xFF, fields={"LOW": (3, 0), "HIGH": (7, 4)})
    B = Register(0x4, writable=0, w1c=0xF)
    C = Register(0x8, size=8)
    D = Register(0x10, access="ro", reset=5)


class Undocumented(Device):
    A = Register(0x0)


class Unexplained(Sound):
    """Has an option nobody explains."""

    class Options(Options):
        speed: int = 3


class Overlapping(Sound):
    """Two fields on one bit."""

    E = Register(0x20, fields={"X": (3, 0), "Y": (5, 3)})


class Beyond(Sound):
    """A register behind its end."""

    E = Register(0x1000)


class Unreset(Sound):
    """Sets a register at reset that the table does not give."""

    def reset(self):
        super().reset()
        self.A = 9


class Sticky(Sound):
    """Forgets a register of its table at reset."""

    def reset(self):
        kept = self.A
        super().reset()
        self.A = kept


class Writable(Sound):
    """Lets a store through to a read-only register."""

    def write(self, offset, size, value):
        super().write(offset, size, value)
        if offset == 0x10:
            self.values["D"][0] = value


class Generous(Sound):
    """Stores reserved bits too."""

    def write(self, offset, size, value):
        super().write(offset, size, value)
        if offset == 0:
            self.values["A"][0] = value


class Uncleared(Sound):
    """Takes a write-1-to-clear register's bits as they are written."""

    def write(self, offset, size, value):
        super().write(offset, size, value)
        if offset == 4:
            self.values["B"][0] = value


class Wide(Sound):
    """Answers a byte of C with its first byte."""

    def read(self, offset, size):
        return super().read(8 if 8 <= offset < 16 else offset, size)


class Spilling(Sound):
    """Gives more than a byte where one is asked for."""

    def read(self, offset, size):
        return 0x1FF if (offset, size) == (0, 1) else super().read(offset, size)


class Fragile(Sound):
    """Raises on a value that it did not expect."""

    E = Register(0x20)

    @E.on_write
    def _written(self, value):
        1 // (value & 1)


class Forgetful(Sound):
    """Has state that its snapshot lacks."""

    def __init__(self, name, options, board):
        super().__init__(name, options, board)
        self.count = 0

    E = Register(0x20, access="ro")

    @E.on_read
    def _read(self):
        self.count += 1
        return self.count


class Unplain(Sound):
    """Saves an object."""

    def save(self):
        return super().save() | {"state": {"object": object()}}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sound_model_passes(check):
    with Subject(Sound) as subject:
        check(subject)


@pytest.mark.parametrize(
    ("model", "check", "sentence"),
    [
        (Undocumented, conformance.is_documented, "says nothing of itself in: summary"),
        (Unexplained, conformance.is_documented, "option speed"),
        (Beyond, conformance.registers_lie_inside, "E at 0x1000"),
        (Overlapping, conformance.fields_lie_apart, "E.Y"),
        (Unreset, conformance.reset_values_are_the_tables, "A"),
        (Sticky, conformance.reset_undoes_everything, "A"),
        (Writable, conformance.read_only_registers_ignore_stores, "D at 0x10"),
        (Generous, conformance.reserved_bits_keep_their_value, "A at 0x0"),
        (Uncleared, conformance.writing_one_clears, "B at 0x4"),
        (Wide, conformance.partial_accesses_are_parts, "C at 0x8"),
        (Spilling, conformance.straddling_accesses_are_answered, "gave 0x1ff"),
        (Forgetful, conformance.snapshots_go_round, "answers"),
        (Unplain, conformance.snapshots_go_round, "not plain data"),
    ],
)
def test_fault_is_found_and_named(model, check, sentence):
    with Subject(model) as subject, pytest.raises(AssertionError) as caught:
        check(subject)

    assert sentence in str(caught.value)


def test_exception_of_a_model_comes_through():
    with Subject(Fragile) as subject, pytest.raises(ZeroDivisionError):
        conformance.random_accesses_are_survived(subject)
