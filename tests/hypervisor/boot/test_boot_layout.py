"""Where programs, initial RAM disk and device tree go."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.boot.layout import Placement, place
from hypervisor.boot.loadable import BootError, Loadable

MIB = 1 << 20
BASE = 0x8000_0000
RAM = (BASE, 512 * MIB)
TREE = b"tree" * 100


def kernel(size: int = 32 * MIB, text_offset: int = 2 * MIB) -> Loadable:
    return Loadable("Image", "linux", [(None, b"kernel")], 0, "riscv64", size, text_offset)


def raw(size: int, address: int | None = None) -> Loadable:
    return Loadable("fw.bin", "raw", [(address, bytes(size))], address or 0, size=size)


def tree(initrd: tuple[int, int] | None) -> bytes:
    return TREE


def by_name(placement: Placement) -> dict[str, int]:
    return {piece.what: piece.address for piece in placement.pieces}


def test_linux_goes_two_mib_into_ram_and_the_rest_high():
    placement = place(RAM, [kernel()], tree, b"cpio" * 5000)

    assert placement.entry == BASE + 2 * MIB
    assert placement.initrd == (BASE + 512 * MIB - 0x5000, BASE + 512 * MIB - 0x5000 + 20000)
    assert placement.tree == BASE + 510 * MIB
    assert by_name(placement)["the initial RAM disk"] == placement.initrd[0]


def test_tree_goes_first_where_firmware_looks_for_it_there():
    placement = place(RAM, [raw(1000), kernel()], tree, b"cpio", tree_first=True)

    assert placement.tree == BASE
    assert placement.entries == (BASE + 2 * MIB, BASE + 4 * MIB)
    assert placement.pieces[0].data == TREE


def test_tree_that_is_too_large_for_the_start_of_ram_is_refused():
    with pytest.raises(BootError, match="2097152 are free at the start of RAM"):
        place(RAM, [raw(1000)], lambda span: bytes(3 * MIB), tree_first=True)


def test_linux_starts_from_a_two_mib_boundary():
    placement = place((BASE + 4096, 64 * MIB), [kernel()], tree)

    assert placement.entry == BASE + 4 * MIB


def test_an_offset_of_zero_is_the_start_of_ram():
    assert place(RAM, [kernel(text_offset=0)], tree).entry == BASE


def test_the_tree_is_built_with_the_place_of_the_initial_ram_disk():
    spans = []

    placement = place(RAM, [kernel()], lambda span: spans.append(span) or TREE, b"cpio")

    assert spans == [placement.initrd]


def test_without_an_initial_ram_disk_the_tree_has_none():
    spans = []

    placement = place(RAM, [kernel()], lambda span: spans.append(span) or TREE)

    assert (spans, placement.initrd) == ([None], None)


def test_in_large_ram_everything_stays_within_the_first_gib():
    placement = place((BASE, 8 << 30), [kernel()], tree, b"cpio")

    assert max(piece.end for piece in placement.pieces) == BASE + (1 << 30)


def test_firmware_is_entered_first_and_its_kernel_follows():
    placement = place(RAM, [raw(300_000), kernel()], tree)

    assert placement.entries == (BASE, BASE + 2 * MIB)


def test_a_kernel_moves_up_for_large_firmware():
    placement = place(RAM, [raw(3 * MIB), kernel()], tree)

    assert placement.entries == (BASE, BASE + 4 * MIB)


def test_programs_with_addresses_stay_there():
    program = Loadable("a.elf", "elf", [(BASE + 64, b"a"), (BASE + 4096, b"b")], BASE + 64)

    placement = place((BASE, 64 * 1024), [program], tree)

    assert placement.entry == BASE + 64
    assert [piece.address for piece in placement.pieces] == [BASE + 64, BASE + 4096, BASE + 0xF000]


def test_the_tree_goes_below_a_program_at_the_end_of_ram():
    placement = place(RAM, [raw(MIB, BASE + 511 * MIB)], tree)

    assert placement.tree == BASE + 511 * MIB - 4096


@pytest.mark.parametrize("address", [0, BASE - 4096, BASE + 512 * MIB])
def test_a_program_outside_ram_is_refused(address):
    with pytest.raises(BootError, match=r"fw\.bin: wants .* not RAM \(0x80000000-0x9fffffff\)"):
        place(RAM, [raw(4096, address)], tree)


def test_programs_that_overlap_are_refused():
    with pytest.raises(BootError, match=r"Image at 0x80200000-.* overlaps fw\.bin at 0x80300000"):
        place(RAM, [kernel(), raw(4096, BASE + 3 * MIB)], tree)


def test_a_tree_too_large_for_linux_is_refused():
    with pytest.raises(BootError, match="device tree has 2097153 bytes; Linux takes 2097152"):
        place(RAM, [kernel()], lambda _: bytes(2 * MIB + 1))


@given(st.integers(1, 40 * MIB), st.integers(0, 20 * MIB))
def test_too_little_ram_is_refused_with_an_amount_that_does(kernel_size, initrd_size):
    programs = [kernel(kernel_size)]
    initrd = bytes(initrd_size)
    needed = need_of((BASE, 64 * 1024), programs, initrd)

    placement = place((BASE, needed), programs, tree, initrd)

    ends = [piece.end for piece in placement.pieces]
    starts = [piece.address for piece in placement.pieces]
    assert max(ends) <= BASE + needed
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def need_of(ram: tuple[int, int], programs: list[Loadable], initrd: bytes) -> int:
    """The amount that the refusal names."""
    with pytest.raises(BootError, match=r"^RAM of 64 KiB is too small: Image .* need") as caught:
        place(ram, programs, tree, initrd)
    amount = re.search(r"need (\d+) MiB$", str(caught.value))
    assert amount is not None
    return int(amount[1]) * MIB
