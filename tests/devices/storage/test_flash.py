"""CFI flash: probing, reading, programming, erasing, and where changes go."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from devices.storage.flash import SECTOR, CfiFlash, FlashOptions
from hypervisor.device import BackendError
from hypervisor.device.testing import Bench

READY, ERASE_FAILED, PROGRAM_FAILED, LOCKED = 0x80, 0x20, 0x10, 0x02
ARRAY, STATUS, QUERY, IDENTITY, CLEAR_STATUS = 0xFF, 0x70, 0x98, 0x90, 0x50
ERASE, PROGRAM, BUFFER, CONFIRM, LOCK = 0x20, 0x40, 0xE8, 0xD0, 0x60


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.bin"
    path.write_bytes(bytes(range(256)) * 4)
    return path


@pytest.fixture
def flash(bench: Bench, image: Path) -> CfiFlash:
    device: CfiFlash = bench.build(CfiFlash, "flash0", file=str(image), size="2M")
    return device


def both(value: int) -> int:
    """The same 16 bits for each of the two chips."""
    return value << 16 | value


def command(flash: CfiFlash, *values: int, at: int = 0) -> None:
    for value in values:
        flash.write(at, 4, both(value))


def program(flash: CfiFlash, at: int, word: int) -> None:
    command(flash, PROGRAM, at=at)
    flash.write(at, 4, word)
    command(flash, ARRAY, at=at)


def status(flash: CfiFlash) -> int:
    command(flash, STATUS)
    return flash.read(0, 4)


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0x10, 1, 0x10), (0x11, 2, 0x1211), (0x10, 4, 0x1312_1110), (0x08, 8, 0x0F0E_0D0C_0B0A_0908)],
)
def test_array_reads_as_memory(flash: CfiFlash, offset: int, size: int, expected: int) -> None:
    assert flash.read(offset, size) == expected


def test_space_beyond_the_file_is_erased(flash: CfiFlash) -> None:
    assert flash.read(0x3FE, 4) == 0xFFFF_FFFE
    assert flash.read((2 << 20) - 4, 4) == 0xFFFF_FFFF


def test_query_answers_in_both_chips(flash: CfiFlash) -> None:
    flash.write(0x55 << 2, 4, both(QUERY))

    letters = [flash.read((0x10 + i) << 2, 4) for i in range(3)]

    assert letters == [both(ord(letter)) for letter in "QRY"]


def test_query_tells_the_geometry_of_one_chip(flash: CfiFlash) -> None:
    flash.write(0x55 << 2, 4, both(QUERY))

    table = [flash.read(index << 2, 2) for index in range(0x40)]

    regions = table[0x2C]
    blocks = (table[0x2D] | table[0x2E] << 8) + 1
    block_size = (table[0x2F] | table[0x30] << 8) << 8
    assert (table[0x13], table[0x27], regions) == (1, 20, 1)
    assert (blocks, block_size) == (8, SECTOR // 2)
    assert 1 << table[0x2A] == 32
    assert bytes(table[0x31:0x36]) == b"PRI10"


def test_identity_names_maker_and_device(flash: CfiFlash) -> None:
    command(flash, IDENTITY)

    assert (flash.read(0, 4), flash.read(4, 4)) == (both(0x89), both(0x18))


@pytest.mark.parametrize("value", [ARRAY, 0xF0])
def test_reset_commands_return_to_the_array(flash: CfiFlash, value: int) -> None:
    command(flash, QUERY)

    command(flash, value)

    assert flash.read(0, 4) == 0x0302_0100


def test_programming_clears_bits_only(flash: CfiFlash) -> None:
    program(flash, 0x10, 0xFF00_FF0F)

    assert flash.read(0x10, 4) == 0x1300_1100


def test_programming_leaves_status_to_read(flash: CfiFlash) -> None:
    command(flash, PROGRAM, at=0x400)
    flash.write(0x400, 4, 0x1234_5678)

    assert flash.read(0x400, 4) == both(READY)


def test_erasing_sets_one_sector(flash: CfiFlash) -> None:
    program(flash, SECTOR, 0)

    command(flash, ERASE, CONFIRM, ARRAY, at=0x100)

    assert flash.read(0, 4) == 0xFFFF_FFFF
    assert flash.read(SECTOR - 4, 4) == 0xFFFF_FFFF
    assert flash.read(SECTOR, 4) == 0


def test_buffered_program_writes_all_its_words(flash: CfiFlash) -> None:
    command(flash, BUFFER, at=0x800)
    ready = flash.read(0x800, 4)
    command(flash, 3, at=0x800)
    for word in range(4):
        flash.write(0x800 + 4 * word, 4, 0x1000 + word)
    command(flash, CONFIRM, ARRAY, at=0x800)

    assert ready == both(READY)
    assert [flash.read(0x800 + 4 * word, 4) for word in range(5)] == [
        *range(0x1000, 0x1004),
        0xFFFF_FFFF,
    ]


def test_buffered_program_without_confirmation_fails_and_writes_nothing(flash: CfiFlash) -> None:
    command(flash, BUFFER, 0, at=0x800)
    flash.write(0x800, 4, 0)
    command(flash, ARRAY, at=0x800)

    assert status(flash) == both(READY | ERASE_FAILED | PROGRAM_FAILED)
    assert flash.contents(0x800, 4) == b"\xff" * 4


def test_buffer_count_beyond_the_buffer_fails(flash: CfiFlash) -> None:
    command(flash, BUFFER, 16, at=0x800)

    assert status(flash) == both(READY | ERASE_FAILED | PROGRAM_FAILED)


def test_erase_without_confirmation_fails_and_erases_nothing(flash: CfiFlash) -> None:
    command(flash, ERASE, ARRAY)

    assert status(flash) == both(READY | ERASE_FAILED | PROGRAM_FAILED)
    assert flash.contents(0, 4) == b"\0\1\2\3"


def test_clearing_status_forgets_failures(flash: CfiFlash) -> None:
    command(flash, ERASE, ARRAY, CLEAR_STATUS)

    assert status(flash) == both(READY)


@pytest.mark.parametrize("action", [0x01, 0xD0], ids=["lock", "unlock"])
def test_lock_commands_succeed(flash: CfiFlash, action: int) -> None:
    command(flash, LOCK, action)

    assert status(flash) == both(READY)


@pytest.mark.parametrize(
    ("commands", "failure"),
    [((PROGRAM, 0), PROGRAM_FAILED | LOCKED), ((ERASE, CONFIRM), ERASE_FAILED | LOCKED)],
    ids=["program", "erase"],
)
def test_read_only_flash_refuses_changes(
    bench: Bench, image: Path, commands: tuple[int, int], failure: int
) -> None:
    flash = bench.build(CfiFlash, file=str(image), size="2M", read_only=True)

    command(flash, *commands)

    assert status(flash) == both(READY | failure)
    assert flash.contents(0, 4) == b"\0\1\2\3"


def test_unknown_command_is_logged_once_and_returns_to_the_array(
    flash: CfiFlash, bench: Bench
) -> None:
    command(flash, 0x77, 0x77)

    assert flash.read(0, 4) == 0x0302_0100
    assert bench.messages == ["flash0: unknown flash command 0x77"]


def test_wide_write_is_two_bank_writes(flash: CfiFlash) -> None:
    flash.write(0x800, 8, both(0x1234) << 32 | both(PROGRAM))

    command(flash, ARRAY)
    assert flash.read(0x804, 4) == both(0x1234)


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [(0x55 << 2, 2, 0x98), (0x55 << 2, 1, 0x98), (0x156, 4, both(0x98))],
)
def test_command_narrower_than_the_bank_is_ignored(
    flash: CfiFlash, offset: int, size: int, value: int
) -> None:
    flash.write(offset, size, value)

    assert flash.read(0x40, 4) == 0x4342_4140


def test_write_beyond_the_end_is_ignored(flash: CfiFlash) -> None:
    end = 2 << 20

    flash.write(end - 4, 8, both(PROGRAM))
    flash.write(end, 4, 0)

    assert flash.sectors == {}


def test_changes_are_discarded_by_default(flash: CfiFlash, image: Path) -> None:
    before = image.read_bytes()

    program(flash, 0, 0)

    assert image.read_bytes() == before


def test_kept_changes_reach_the_file_and_gaps_stay_erased(bench: Bench, image: Path) -> None:
    flash = bench.build(CfiFlash, file=str(image), size="2M", keep=True)

    program(flash, 0, 0)
    program(flash, 0x10_0000, 0x1122_3344)
    flash.close()

    again = bench.build(CfiFlash, file=str(image), size="2M")
    assert (again.read(0, 4), again.read(0x10_0000, 4)) == (0, 0x1122_3344)
    assert again.contents(0x400, 0x10_0000 - 0x400) == b"\xff" * (0x10_0000 - 0x400)


def test_contents_outlast_a_reset(flash: CfiFlash) -> None:
    program(flash, 0, 0)
    command(flash, QUERY)

    flash.reset()

    assert flash.read(0, 4) == 0


def test_snapshot_carries_changed_sectors_and_a_command_under_way(
    flash: CfiFlash, bench: Bench, image: Path
) -> None:
    program(flash, 0x900, 0xAAAA_5555)
    command(flash, BUFFER, 1, at=0x800)
    flash.write(0x800, 4, 0x1111_2222)
    other = bench.build(CfiFlash, "flash0", file=str(image), size="2M")

    other.load(flash.save())
    other.write(0x804, 4, 0x3333_4444)
    command(other, CONFIRM, ARRAY, at=0x800)

    assert other.read(0x800, 8) == 0x3333_4444_1111_2222
    assert other.read(0x900, 4) == 0xAAAA_5555


def test_snapshot_of_other_contents_is_refused(flash: CfiFlash, bench: Bench) -> None:
    blank = bench.build(CfiFlash, size="2M")

    with pytest.raises(ValueError, match="taken with other contents"):
        flash.load(blank.save())


def test_restored_kept_flash_brings_its_file_along(bench: Bench, image: Path) -> None:
    flash = bench.build(CfiFlash, file=str(image), size="2M", keep=True)
    before = flash.save()
    program(flash, 0, 0)

    flash.load(before)

    assert image.read_bytes()[:4] == b"\0\1\2\3"


def test_kept_flash_of_a_replay_opens_its_file_to_read_and_leaves_it(
    bench: Bench, image: Path
) -> None:
    bench.offline = True
    flash = bench.build(CfiFlash, file=str(image), size="2M", keep=True)

    program(flash, 0, 0)

    assert fcntl.fcntl(flash.file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert flash.read(0, 4) == 0
    assert image.read_bytes()[:4] == b"\0\1\2\3"


@pytest.mark.parametrize(
    ("has_file", "keep", "read_only", "offline", "writes"),
    [
        (True, True, False, False, True),
        (False, True, False, False, False),
        (True, False, False, False, False),
        (True, True, True, False, False),
        (True, True, False, True, False),
    ],
)
def test_flash_writes_in_place_only_what_it_keeps_in_a_file(
    has_file: bool,
    keep: bool,
    read_only: bool,
    offline: bool,
    writes: bool,
    bench: Bench,
    image: Path,
) -> None:
    bench.offline = offline
    file = str(image) * has_file or None
    flash = bench.build(CfiFlash, file=file, size="2M", keep=keep, read_only=read_only)

    assert bool(flash.writes_in_place) == writes


@pytest.mark.parametrize("size", ["3M", "256K", "512M"])
def test_size_that_no_chip_has_is_refused(size: str) -> None:
    with pytest.raises(ValidationError, match="must be a power of two from 512K to 256M"):
        FlashOptions(size=size)


def test_file_larger_than_the_flash_is_refused(bench: Bench, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes((512 << 10) + 1))

    with pytest.raises(BackendError, match="524289 bytes, more than the flash's 524288"):
        bench.build(CfiFlash, file=str(large), size="512K")


def test_missing_file_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"cannot open .*none: No such file"):
        bench.build(CfiFlash, file=str(tmp_path / "none"))


def test_address_space_is_as_large_as_the_flash(flash: CfiFlash) -> None:
    assert CfiFlash.size_for(flash.options) == 2 << 20
