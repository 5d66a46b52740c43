"""The virtio GPU's display commands against VIRTIO 1.2, section 5.7."""

import tracemalloc
from struct import unpack_from

import numpy as np
import pytest

from gpu.virtio_gpu import protocol
from gpu.virtio_gpu.protocol import Command, Header, Response

OK = Response.OK_NODATA


def test_display_info_names_the_one_display(driver):
    kind, data = driver.ask(Command.GET_DISPLAY_INFO)

    assert kind == Response.OK_DISPLAY_INFO
    assert unpack_from("<6I", data) == (0, 0, 1024, 768, 1, 0)
    assert not any(data[24 : 16 * 24])


def test_response_repeats_nothing_but_a_fence(driver):
    offer = driver.request(Command.GET_DISPLAY_INFO, header=(0, 77, 5, 3), room=408)

    assert Header(*protocol.HEADER.unpack(offer.data()[:24])) == (0x1101, 0, 0, 0, 0)
    assert driver.queues[0].used() == [(offer.head, 408)]


def test_edid_is_of_the_size_that_was_configured(build, bench, driver_of):
    driver = driver_of(build(bench, display={"width": 800, "height": 600}))

    kind, data = driver.ask(Command.GET_EDID, 0)

    size, block = unpack_from("<I4x128s", data)
    assert (kind, size, sum(block) % 256) == (Response.OK_EDID, 128, 0)
    assert (block[56] | block[58] >> 4 << 8, block[59] | block[61] >> 4 << 8) == (800, 600)


def test_picture_is_shown_after_transfer_and_scanout(driver, gpu):
    address = driver.picture(1, 16, 8)

    shown = driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)[0]

    guest = np.frombuffer(driver.memory.read(address, 512), np.uint8).reshape(8, 16, 4)
    assert shown == OK
    assert gpu.scanout.rgb() == (16, 8, guest[..., 2::-1].tobytes())


def test_only_the_transferred_part_changes(driver, gpu):
    address = driver.picture(1, 16, 8)
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)
    before = gpu.scanout.read()
    driver.memory.write(address, b"\xee" * 512)

    driver.ask(Command.TRANSFER_TO_HOST_2D, 4, 2, 3, 2, 4 * (16 * 2 + 4), 1)

    after = gpu.scanout.read()
    assert (after[2:4, 4:7] == 0xEE).all()
    before[2:4, 4:7] = 0xEE
    assert (after == before).all()


def test_transfer_crosses_the_pieces_of_its_memory(driver, gpu):
    place = driver.allocate(4096, 4096)
    pieces = [(place + 100, 10), (place + 200, 400), (place + 50, 30), (place + 1000, 72)]
    data = bytes(range(256)) * 2
    at = 0
    for address, size in pieces:
        driver.memory.write(address, data[at : at + size])
        at += size
    driver.ask(Command.RESOURCE_CREATE_2D, 1, 2, 16, 8)
    driver.attach(1, pieces)

    for y in range(8):
        driver.ask(Command.TRANSFER_TO_HOST_2D, 1, y, 15, 1, y * 64 + 4, 1)
    driver.ask(Command.TRANSFER_TO_HOST_2D, 0, 0, 1, 8, 0, 1)
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)

    assert bytes(gpu.resources.picture(1).pixels) == data


def test_scanout_may_show_a_part_of_a_picture(driver, gpu):
    driver.picture(1, 16, 8)
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)
    whole = gpu.scanout.read()

    driver.ask(Command.SET_SCANOUT, 3, 2, 8, 4, 0, 1)

    assert (gpu.scanout.read() == whole[2:6, 3:11]).all()


def test_flush_tells_watchers_of_what_is_shown(driver, gpu):
    driver.picture(1)
    driver.picture(2)
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)
    seen = []
    gpu.scanout.watchers.append(seen.append)

    driver.ask(Command.RESOURCE_FLUSH, 2, 3, 100, 2, 1)
    driver.ask(Command.RESOURCE_FLUSH, 0, 0, 16, 8, 2)

    assert seen == [(2, 3, 14, 2)]


def test_picture_that_goes_is_no_longer_shown(driver, gpu):
    driver.picture(1)
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)

    driver.ask(Command.RESOURCE_UNREF, 1)

    assert gpu.scanout.rgb() == (1024, 768, bytes(1024 * 768 * 3))
    assert gpu.resources.quota.used == 0


def test_blob_is_shown_from_guest_memory(driver, gpu):
    address = driver.allocate(4096, 4096)
    driver.blob(1, [(address, 4096)])
    fields = (0, 0, 8, 4, 0, 1, 8, 4, 67, 64, 128)

    kind = driver.ask(Command.SET_SCANOUT_BLOB, *fields)[0]
    driver.memory.write(address + 128 + 64, b"\x01\x02\x03\xff")

    assert kind == OK
    assert gpu.scanout.rgb()[2][24:27] == b"\x01\x02\x03"


def test_part_of_a_picture_in_guest_memory_is_shown(driver, gpu):
    address = driver.allocate(4096, 4096)
    driver.blob(1, [(address, 4096)])

    kind = driver.ask(Command.SET_SCANOUT_BLOB, 3, 2, 8, 4, 0, 1, 16, 8, 67, 64, 128)[0]
    driver.memory.write(address + 128 + 2 * 64 + 3 * 4, b"\x01\x02\x03\xff")

    assert kind == OK
    assert gpu.scanout.rgb() == (8, 4, b"\x01\x02\x03" + bytes(8 * 4 * 3 - 3))


def test_memory_that_is_taken_back_is_no_longer_shown(driver, gpu):
    address = driver.allocate(4096, 4096)
    driver.blob(1, [(address, 4096)])
    driver.ask(Command.SET_SCANOUT_BLOB, 0, 0, 8, 4, 0, 1, 8, 4, 2, 64, 0)

    driver.ask(Command.RESOURCE_DETACH_BACKING, 1)

    assert gpu.scanout.picture is None


def test_picture_outlives_its_memory(driver, gpu):
    driver.picture(1)
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)
    before = gpu.scanout.rgb()

    driver.ask(Command.RESOURCE_DETACH_BACKING, 1)

    assert gpu.scanout.rgb() == before
    assert driver.ask(Command.TRANSFER_TO_HOST_2D, 0, 0, 1, 1, 0, 1)[0] == Response.ERR_UNSPEC


def test_cursor_lies_over_the_picture(driver, gpu):
    driver.picture(1, 16, 8, data=bytes(512))
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)
    image = bytearray(64 * 64 * 4)
    place = 4 * (64 * 2 + 3)
    image[place : place + 4] = b"\x10\x20\x30\xff"
    address = driver.allocate(len(image), 4096)
    driver.memory.write(address, image)
    driver.ask(Command.RESOURCE_CREATE_2D, 9, 1, 64, 64)
    driver.attach(9, [(address, len(image))])
    driver.ask(Command.TRANSFER_TO_HOST_2D, 0, 0, 64, 64, 0, 9)

    driver.request(Command.UPDATE_CURSOR, 0, (1 << 32) - 1, 4, 9, 0, 0, room=0, queue=1)
    updated = np.argwhere(gpu.scanout.read()[..., :3].any(axis=2)).tolist()
    driver.request(Command.MOVE_CURSOR, 0, 5, 1, 0, 0, 0, room=0, queue=1)
    moved = np.argwhere(gpu.scanout.read()[..., :3].any(axis=2)).tolist()
    driver.request(Command.UPDATE_CURSOR, 0, 5, 1, 0, 0, 0, room=0, queue=1)

    assert (updated, moved) == ([[6, 2]], [[3, 8]])
    assert not gpu.scanout.read().any()
    assert [written for _, written in driver.queues[1].used()] == [0, 0, 0]


def test_resize_is_told_by_an_event(driver, gpu):
    driver.take_interrupt()

    gpu.resize(640, 480)

    assert (driver.take_interrupt(), driver.get(0x100)) == (2, 1)
    assert unpack_from("<6I", driver.ask(Command.GET_DISPLAY_INFO)[1])[2:4] == (640, 480)
    driver.set(0x104, 1)
    assert driver.get(0x100) == 0


REFUSED = [
    (Response.ERR_INVALID_RESOURCE_ID, Command.RESOURCE_CREATE_2D, (0, 2, 4, 4)),
    (Response.ERR_INVALID_RESOURCE_ID, Command.RESOURCE_CREATE_2D, (1, 2, 4, 4)),
    (Response.ERR_INVALID_PARAMETER, Command.RESOURCE_CREATE_2D, (5, 99, 4, 4)),
    (Response.ERR_INVALID_PARAMETER, Command.RESOURCE_CREATE_2D, (5, 2, 0, 4)),
    (Response.ERR_INVALID_PARAMETER, Command.RESOURCE_CREATE_2D, (5, 2, 1 << 31, 1 << 31)),
    (Response.ERR_OUT_OF_MEMORY, Command.RESOURCE_CREATE_2D, (5, 2, 16384, 16384)),
    (Response.ERR_INVALID_RESOURCE_ID, Command.RESOURCE_UNREF, (5,)),
    (Response.ERR_INVALID_RESOURCE_ID, Command.RESOURCE_FLUSH, (0, 0, 1, 1, 5)),
    (Response.ERR_INVALID_RESOURCE_ID, Command.SET_SCANOUT, (0, 0, 4, 4, 0, 5)),
    (Response.ERR_INVALID_RESOURCE_ID, Command.SET_SCANOUT, (0, 0, 4, 4, 0, 2)),
    (Response.ERR_INVALID_SCANOUT_ID, Command.SET_SCANOUT, (0, 0, 4, 4, 1, 1)),
    (Response.ERR_INVALID_PARAMETER, Command.SET_SCANOUT, (8, 0, 9, 4, 0, 1)),
    (Response.ERR_INVALID_PARAMETER, Command.SET_SCANOUT, (0, 0, 0, 4, 0, 1)),
    (Response.ERR_INVALID_PARAMETER, Command.SET_SCANOUT, ((1 << 32) - 1, 0, 2, 4, 0, 1)),
    (Response.ERR_INVALID_PARAMETER, Command.TRANSFER_TO_HOST_2D, (0, 0, 17, 1, 0, 1)),
    (Response.ERR_INVALID_PARAMETER, Command.TRANSFER_TO_HOST_2D, (0, 0, 16, 8, 4, 1)),
    (Response.ERR_INVALID_PARAMETER, Command.TRANSFER_TO_HOST_2D, (0, 0, 1, 1, (1 << 64) - 1, 1)),
    (Response.ERR_INVALID_RESOURCE_ID, Command.TRANSFER_TO_HOST_2D, (0, 0, 1, 1, 0, 2)),
    (
        Response.ERR_INVALID_PARAMETER,
        Command.SET_SCANOUT_BLOB,
        (0, 0, 8, 4, 0, 2, 8, 4, 2, 16, 0),
    ),
    (
        Response.ERR_INVALID_PARAMETER,
        Command.SET_SCANOUT_BLOB,
        (1, 0, 8, 4, 0, 2, 8, 4, 2, 64, 0),
    ),
    (
        Response.ERR_INVALID_PARAMETER,
        Command.SET_SCANOUT_BLOB,
        (0, 0, 64, 64, 0, 2, 64, 64, 2, 256, 0),
    ),
    (
        Response.ERR_INVALID_PARAMETER,
        Command.SET_SCANOUT_BLOB,
        (0, 0, 8, 4, 0, 2, 8, 4, 2, 32, (1 << 32) - 64),
    ),
    (Response.ERR_INVALID_PARAMETER, Command.UPDATE_CURSOR, (0, 0, 0, 1, 0, 0)),
    (Response.ERR_INVALID_RESOURCE_ID, Command.UPDATE_CURSOR, (0, 0, 0, 5, 0, 0)),
    (Response.ERR_INVALID_SCANOUT_ID, Command.GET_EDID, (1,)),
    (Response.ERR_UNSPEC, 0x0999, ()),
    (Response.ERR_UNSPEC, 0, ()),
]


@pytest.mark.parametrize(("error", "command", "fields"), REFUSED)
def test_request_that_cannot_be_is_refused_and_changes_nothing(driver, gpu, error, command, fields):
    driver.picture(1)
    driver.blob(2, [(driver.allocate(4096, 4096), 4096)])
    before = {name: gpu.save()[name] for name in ("resources", "scanout", "shown")}
    held = gpu.resources.quota.used

    kind = driver.ask(command, *fields)[0]

    assert kind == error
    assert {name: gpu.save()[name] for name in before} == before
    assert gpu.resources.quota.used == held


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [(0x1000, 4096)],
        [(0x8000_0000, 0)],
        [((1 << 64) - 4096, 4096)],
        [(0x8000_0000, 9 << 20)],
    ],
)
def test_memory_outside_ram_is_refused(driver, gpu, pieces):
    driver.ask(Command.RESOURCE_CREATE_2D, 1, 2, 4, 4)

    assert driver.attach(1, pieces) == Response.ERR_INVALID_PARAMETER
    assert driver.blob(2, pieces) == Response.ERR_INVALID_PARAMETER
    assert [state["number"] for state in gpu.resources.save()] == [1]


def test_request_cut_short_is_refused(driver):
    offer = driver.queues[0].offer(Header(Command.SET_SCANOUT, 0, 0, 0, 0).pack() + b"\0" * 20, 24)
    driver.notify(0)

    assert unpack_from("<I", offer.data())[0] == Response.ERR_INVALID_PARAMETER


def test_request_without_a_whole_header_breaks_the_queue(driver):
    driver.queues[0].offer(b"\0" * 23, 24)
    driver.notify(0)

    assert driver.status & 64


def test_count_of_entries_beyond_those_given_is_refused(driver):
    driver.ask(Command.RESOURCE_CREATE_2D, 1, 2, 4, 4)

    kind = driver.ask(Command.RESOURCE_ATTACH_BACKING, 1, 0xFFFF_FFFF, tail=bytes(64))[0]

    assert kind == Response.ERR_INVALID_PARAMETER


def test_pictures_are_held_within_the_displays_memory(build, bench, driver_of):
    gpu = build(bench, display={"memory": "1M"})
    driver = driver_of(gpu)

    kinds = [
        driver.ask(Command.RESOURCE_CREATE_2D, number, 2, 256, 256)[0] for number in range(1, 6)
    ]
    driver.ask(Command.RESOURCE_UNREF, 1)
    again = driver.ask(Command.RESOURCE_CREATE_2D, 9, 2, 256, 256)[0]

    assert kinds == [OK] * 3 + [Response.ERR_OUT_OF_MEMORY] * 2
    assert again == OK


def test_blob_of_one_page_again_and_again_makes_no_huge_picture(build, bench, driver_of):
    gpu = build(bench, display={"memory": "1M"})
    driver = driver_of(gpu)
    driver.blob(1, [(driver.allocate(4096, 4096), 4096)] * 1024)

    kind = driver.ask(Command.SET_SCANOUT_BLOB, 0, 0, 1024, 1024, 0, 1, 1024, 1024, 2, 4096, 0)[0]

    assert kind == Response.ERR_OUT_OF_MEMORY
    assert gpu.scanout.picture is None


def test_flood_of_small_resources_is_held_within_the_displays_memory(build, bench, driver_of):
    driver = driver_of(build(bench, display={"memory": "1M"}))
    tracemalloc.start()

    kinds = {driver.ask(Command.RESOURCE_CREATE_2D, n, 2, 1, 1)[0] for n in range(1, 4000)}

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kinds == {OK, Response.ERR_OUT_OF_MEMORY}
    assert peak < 4 << 20


def test_reset_forgets_all_pictures(driver, gpu):
    driver.picture(1)
    driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)

    driver.set(0x070, 0)

    assert (gpu.resources.quota.used, gpu.resources.save(), gpu.scanout.picture) == (0, [], None)
