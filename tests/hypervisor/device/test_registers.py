"""Register tables: what a guest's access does to a register, and what the table tells of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.device import Device, Register, registers_of
from hypervisor.device.testing import Bench


class Sampler(Device):
    """One register of every kind."""

    type = "test.sampler"

    PLAIN = Register(0x00, reset=0x1234_5678)
    MASKED = Register(0x04, reset=0xF0F0_0000, writable=0x0000_FFFF)
    FLAGS = Register(0x08, reset=0xFF, w1c=0x0F, writable=0)
    FIXED = Register(0x0C, reset=0xCAFE, access="ro")
    TRIGGER = Register(0x10, access="wo")
    WIDE = Register(0x18, size=8, reset=0x1122_3344_5566_7788)
    BYTE_A = Register(0x20, size=1, reset=0xA1)
    BYTE_B = Register(0x21, size=1, reset=0xB2)
    SPLIT_READ = Register(0x24, size=1, access="ro", reset=0x11, bank=0)
    SPLIT_WRITE = Register(0x24, size=1, access="wo", bank=0)
    BANKED = Register(0x24, size=1, reset=0x99, bank=1)
    ARRAY = Register(0x40, count=4, stride=0x10)
    HOOKED = Register(0x80, count=2)
    MODES = Register(0x90, fields={"SPEED": (3, 1)}, tagged={"TURBO": 7})

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.written: list[tuple[int, int]] = []

    @HOOKED.on_read
    def _read_hooked(self, index: int) -> int:
        return 0x1_0000_00A0 + index

    @HOOKED.on_write
    def _hooked_written(self, index: int, value: int) -> None:
        self.written.append((index, value))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def sampler(bench: Bench) -> Sampler:
    device: Sampler = bench.build(Sampler)
    return device


def test_register_reads_reset_value_first(sampler: Sampler) -> None:
    assert sampler.read(0x00, 4) == 0x1234_5678


def test_write_changes_writable_bits_only(sampler: Sampler) -> None:
    sampler.write(0x04, 4, 0xFFFF_1234)

    assert sampler.read(0x04, 4) == 0xF0F0_1234


def test_writing_one_clears_and_zero_keeps_w1c_bits(sampler: Sampler) -> None:
    sampler.write(0x08, 4, 0x05)

    assert sampler.read(0x08, 4) == 0xFA


def test_partial_write_to_w1c_register_keeps_other_bytes(sampler: Sampler) -> None:
    sampler.write(0x09, 1, 0xFF)

    assert sampler.read(0x08, 4) == 0xFF


def test_read_only_register_ignores_writes(sampler: Sampler) -> None:
    sampler.write(0x0C, 4, 0)

    assert sampler.read(0x0C, 4) == 0xCAFE


def test_write_only_register_stores_and_reads_as_zero(sampler: Sampler) -> None:
    sampler.write(0x10, 4, 7)

    assert (sampler.read(0x10, 4), sampler.TRIGGER) == (0, 7)


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0x18, 4, 0x5566_7788),
        (0x1C, 4, 0x1122_3344),
        (0x1B, 2, 0x4455),
        (0x1F, 1, 0x11),
        (0x20, 2, 0xB2A1),
        (0x00, 8, 0xF0F0_0000_1234_5678),
    ],
)
def test_read_of_part_or_several_registers_gives_their_bytes(
    sampler: Sampler, offset: int, size: int, expected: int
) -> None:
    assert sampler.read(offset, size) == expected


def test_write_of_half_a_register_keeps_the_other_half(sampler: Sampler) -> None:
    sampler.write(0x1C, 4, 0xAABB_CCDD)

    assert sampler.WIDE == 0xAABB_CCDD_5566_7788


def test_write_across_registers_reaches_both(sampler: Sampler) -> None:
    sampler.write(0x20, 2, 0x3344)

    assert (sampler.BYTE_A, sampler.BYTE_B) == (0x44, 0x33)


def test_read_and_write_registers_may_share_an_offset(sampler: Sampler) -> None:
    sampler.write(0x24, 1, 0x55)

    assert (sampler.read(0x24, 1), sampler.SPLIT_WRITE) == (0x11, 0x55)


def test_bank_selects_the_register_at_an_offset(sampler: Sampler) -> None:
    sampler.register_bank = 1

    assert sampler.read(0x24, 1) == 0x99


def test_array_elements_are_a_stride_apart(sampler: Sampler) -> None:
    sampler.write(0x60, 4, 9)

    assert sampler.values["ARRAY"] == [0, 0, 9, 0]


def test_hooks_of_an_array_get_the_index(sampler: Sampler) -> None:
    sampler.write(0x84, 4, 0x77)

    assert sampler.written == [(1, 0x77)]


def test_read_hook_result_is_cut_to_the_register(sampler: Sampler) -> None:
    assert sampler.read(0x84, 4) == 0xA1


def test_own_assignment_runs_no_hook_and_is_cut_to_the_register(sampler: Sampler) -> None:
    sampler.BYTE_A = 0x1FF

    assert sampler.BYTE_A == 0xFF


def test_unknown_offset_reads_zero_and_is_logged_once(sampler: Sampler, bench: Bench) -> None:
    values = [sampler.read(0xF0, 1), sampler.read(0xF0, 1)]

    assert values == [0, 0]
    assert bench.messages == ["dev0: 1-byte read of unknown register 0xf0"]


def test_flood_of_unknown_offsets_logs_a_bounded_number(sampler: Sampler, bench: Bench) -> None:
    for offset in range(0x100, 0x300):
        sampler.write(offset, 1, 1)

    assert len(bench.messages) == 64


def test_tagged_field_is_logged_by_name_once(sampler: Sampler, bench: Bench) -> None:
    sampler.write(0x90, 4, 0x80)
    sampler.write(0x90, 4, 0x80)

    assert bench.messages == ["dev0: MODES.TURBO is not implemented"]


def test_tagged_field_set_by_a_narrow_write_is_logged(sampler: Sampler, bench: Bench) -> None:
    sampler.write(0x90, 1, 0x80)

    assert bench.messages == ["dev0: MODES.TURBO is not implemented"]


def test_decode_names_field_values() -> None:
    assert Sampler.MODES.decode(0x8A) == {"SPEED": 5, "TURBO": 1}


def test_table_lists_registers_by_offset() -> None:
    names = [register.name for register in registers_of(Sampler)]

    assert names[:5] == ["PLAIN", "MASKED", "FLAGS", "FIXED", "TRIGGER"]
    assert names.index("SPLIT_READ") < names.index("SPLIT_WRITE") < names.index("BANKED")


def test_array_instances_are_named_with_their_index() -> None:
    assert (Sampler.ARRAY.instance_name(2), Sampler.PLAIN.instance_name(0)) == ("ARRAY[2]", "PLAIN")


class Memory(Device):
    """Sixteen bytes as registers of different sizes, fully writable."""

    type = "test.memory"

    R0 = Register(0, size=4)
    R4 = Register(4, size=2)
    R6 = Register(6, size=1)
    R7 = Register(7, size=1)
    R8 = Register(8, size=8)


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1))
    )
)
def test_writable_registers_behave_as_little_endian_memory(
    accesses: list[tuple[int, int, int]],
) -> None:
    device = Bench().build(Memory)
    model = bytearray(16)
    for offset, size, value in accesses:
        device.write(offset, size, value)
        model[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    seen = b"".join(device.read(offset, 1).to_bytes(1, "little") for offset in range(16))

    assert seen == model
