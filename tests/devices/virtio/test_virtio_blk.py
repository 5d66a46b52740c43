"""The virtio disk against VIRTIO 1.2, section 5.2."""

import tracemalloc
from struct import pack

import pytest

from devices.virtio import blk
from devices.virtio.blk_request import DISCARD, FLUSH, GET_ID, IN, IOERR, OK, OUT, UNSUPP
from devices.virtio.blk_request import WRITE_ZEROES as ZERO
from hypervisor.device import BackendError
from hypervisor.device.testing import Bench, BenchMemory
from hypervisor.device.virtio.testing import GuestDriver

LATENCY = 100_000
LONG = 1_000_000_000


@pytest.fixture
def disk(bench, make_disk, fake):
    return make_disk(bench, fake)


@pytest.fixture
def driver(disk, bench):
    driver = GuestDriver(disk, bench)
    driver.start(size=16)
    return driver


def request(driver, kind, sector=0, data=(), room=(), indirect=False):
    """Offer a request and notify; its data's room and its status byte can be read later."""
    header = pack("<IIQ", kind, 0, sector)
    offer = driver.queues[0].offer([header, *data], [*room, 1], indirect=indirect)
    offer.memory.write(offer.room[-1][0], b"\xff")
    driver.notify(0)
    return offer


def answer(bench, offer):
    """Let time pass; the (status, data) of a request."""
    bench.clock.advance(LONG)
    data = offer.data()
    return data[-1], data[:-1]


@pytest.mark.parametrize("indirect", [False, True])
def test_read_brings_sectors_and_their_used_length(driver, bench, fake, indirect):
    offer = request(driver, IN, 3, room=[512, 1024], indirect=indirect)

    assert answer(bench, offer) == (OK, bytes(fake.data[1536:3072]))
    assert driver.queues[0].used() == [(offer.head, 1537)]
    assert driver.take_interrupt() == 1


def test_write_reaches_the_disk(driver, bench, fake):
    offer = request(driver, OUT, 8, data=[b"a" * 512, b"b" * 512])

    assert answer(bench, offer) == (OK, b"")
    assert fake.data[4096:5120] == b"a" * 512 + b"b" * 512
    assert fake.calls == [("write", 4096, 1024)]


def test_header_and_data_may_share_a_descriptor(driver, bench, fake):
    header = pack("<IIQ", OUT, 0, 1)
    offer = driver.queues[0].offer([header[:3], header[3:] + b"z" * 512], [1])
    driver.notify(0)

    assert answer(bench, offer) == (OK, b"")
    assert fake.data[512:1024] == b"z" * 512


def test_answer_comes_after_latency_and_transfer(bench, make_disk, fake):
    disk = make_disk(bench, fake, latency="50us", bandwidth=512_000_000)
    driver = GuestDriver(disk, bench)
    driver.start()
    offer = request(driver, IN, room=[512])

    bench.clock.advance(50_999)
    early = driver.queues[0].used()
    bench.clock.advance(1)

    assert early == []
    assert driver.queues[0].used() == [(offer.head, 513)]


def test_latencies_of_requests_pass_side_by_side(driver, bench):
    offers = [request(driver, IN, number, room=[512]) for number in range(4)]

    bench.clock.advance(LATENCY + 4 * 512)

    assert [head for head, _ in driver.queues[0].used()] == [offer.head for offer in offers]


def test_flush_is_answered_after_the_disk_flushed(driver, bench, fake):
    write = request(driver, OUT, data=[b"x" * 512])
    flush = request(driver, FLUSH)

    assert (answer(bench, write)[0], answer(bench, flush)[0]) == (OK, OK)
    assert fake.calls == [("write", 0, 512), ("flush",)]


def test_writes_are_flushed_for_a_driver_that_can_not_flush(disk, bench, fake):
    driver = GuestDriver(disk, bench)
    driver.start(without=blk.F_FLUSH | blk.F_CONFIG_WCE)

    request(driver, OUT, data=[b"x" * 512])
    bench.clock.advance(LONG)

    assert fake.calls == [("write", 0, 512), ("flush",)]


def test_writes_are_flushed_in_writethrough_mode(driver, disk, bench, fake):
    disk.write(0x120, 1, 0)

    request(driver, OUT, data=[b"x" * 512])
    bench.clock.advance(LONG)

    assert fake.calls == [("write", 0, 512), ("flush",)]


def test_failed_flush_is_an_error(driver, bench, fake):
    fake.failure = OSError("disk.img: no space left on device")

    offer = request(driver, FLUSH)

    assert answer(bench, offer)[0] == IOERR
    assert bench.messages == ["disk0: disk.img: no space left on device"]


@pytest.mark.parametrize("kind", [IN, OUT])
def test_host_error_is_an_io_error(driver, bench, fake, kind):
    fake.failure = OSError("lost")
    data, room = {IN: ([], [512]), OUT: ([b"x" * 512], [])}[kind]

    offer = request(driver, kind, data=data, room=room)

    assert answer(bench, offer)[0] == IOERR
    assert driver.queues[0].used() == [(offer.head, 0 if room else 1)]


def test_serial_number_is_padded_to_twenty_bytes(bench, make_disk, fake):
    driver = GuestDriver(make_disk(bench, fake, serial="S/N 1"), bench)
    driver.start()

    offer = request(driver, GET_ID, room=[20])

    assert answer(bench, offer) == (OK, b"S/N 1".ljust(20, b"\0"))


def test_serial_number_outside_ascii_is_refused(bench, make_disk, fake):
    with pytest.raises(BackendError, match="not ASCII"):
        make_disk(bench, fake, serial="ä")


def test_discard_takes_several_ranges(driver, bench, fake):
    ranges = pack("<QII", 8, 8, 0) + pack("<QII", 32, 16, 0)

    offer = request(driver, DISCARD, data=[ranges])

    assert answer(bench, offer)[0] == OK
    assert fake.calls == [("discard", 4096, 4096), ("discard", 16384, 8192)]


def test_write_zeroes_may_unmap_when_told(driver, bench, fake):
    keep = request(driver, ZERO, data=[pack("<QII", 8, 8, 0)])
    unmap = request(driver, ZERO, data=[pack("<QII", 8, 8, 1)])

    assert (answer(bench, keep)[0], answer(bench, unmap)[0]) == (OK, OK)
    assert fake.calls == [("write_zeroes", 4096, 4096), ("discard", 4096, 4096)]


@pytest.mark.parametrize(
    ("kind", "payload", "status"),
    [
        (DISCARD, pack("<QII", 0, 8, 1), UNSUPP),
        (ZERO, pack("<QII", 0, 8, 2), UNSUPP),
        (DISCARD, pack("<QII", 2047, 2, 0), IOERR),
        (DISCARD, pack("<QII", (1 << 64) - 1, 1, 0), IOERR),
        (DISCARD, pack("<QII", 0, 0xFFFF_FFFF, 0), IOERR),
        (DISCARD, b"short", IOERR),
        (DISCARD, pack("<QII", 0, 8, 0) * 65, IOERR),
        (99, b"x" * 512, UNSUPP),
        (OUT, b"x" * 100, IOERR),
    ],
)
def test_request_that_can_not_be_done_is_answered_so(driver, bench, fake, kind, payload, status):
    offer = request(driver, kind, data=[payload])

    assert answer(bench, offer)[0] == status
    assert fake.calls == []


@pytest.mark.parametrize(("sector", "size"), [(2047, 1024), (1 << 63, 512), (0, 100)])
def test_read_outside_the_disk_is_an_error(driver, bench, fake, sector, size):
    offer = request(driver, IN, sector, room=[size])

    assert answer(bench, offer)[0] == IOERR
    assert fake.calls == []


def test_read_only_disk_says_so_and_refuses_writes(bench, make_disk, fake):
    fake.read_only = True
    driver = GuestDriver(make_disk(bench, fake, read_only=True), bench)
    driver.start()

    offer = request(driver, OUT, data=[b"x" * 512])

    assert driver.offered() & blk.F_RO
    assert not driver.offered() & (blk.F_DISCARD | blk.F_WRITE_ZEROES)
    assert answer(bench, offer)[0] == IOERR


@pytest.mark.parametrize(("data", "room"), [([b"x" * 15], [1]), ([b"x" * 16], [])])
def test_request_without_header_or_status_breaks_the_queue(driver, data, room):
    driver.queues[0].offer(data, room)

    driver.notify(0)

    assert driver.status & 64


def test_configuration_gives_the_capacity(disk):
    assert disk.read(0x100, 8) == 2048
    assert (disk.read(0x100, 4), disk.read(0x104, 4)) == (2048, 0)
    assert disk.read(0x114, 4) == 512


def test_requests_wait_while_many_bytes_are_in_flight(bench, make_disk, fake, monkeypatch):
    monkeypatch.setattr(blk, "MAX_REQUEST", 1024)
    disk = make_disk(bench, fake)
    driver = GuestDriver(disk, bench)
    driver.start(size=32)

    offers = [request(driver, IN, number, room=[512]) for number in range(8)]
    held = disk._bytes

    assert held == 1024
    assert [answer(bench, offer)[0] for offer in offers] == [OK] * 8


def test_request_larger_than_any_is_an_error(bench, make_disk, fake):
    bench.memory = BenchMemory(size=(64 << 20) + (1 << 20))
    fake.size = 1 << 40
    driver = GuestDriver(make_disk(bench, fake), bench)
    driver.start()

    offer = request(driver, IN, room=[(64 << 20) + 512])

    assert driver.queues[0].used() == [(offer.head, 0)]
    assert fake.calls == []


def test_reset_settles_and_forgets_requests(driver, disk, bench, fake):
    request(driver, OUT, data=[b"x" * 512])

    driver.set(0x070, 0)
    settled = list(fake.calls)
    driver.start()
    bench.clock.advance(LONG)

    assert settled == [("write", 0, 512)]
    assert fake.calls == settled
    assert driver.queues[0].used() == []


def test_driver_that_resets_again_and_again_holds_no_memory(disk, driver):
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    for _ in range(20):
        request(driver, IN, room=[256 << 10])
        driver.set(0x070, 0)
        driver.start()

    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 1 << 20


def test_digest_of_a_replayed_disk_copies_none_of_its_writes(bench, tmp_path):
    (tmp_path / "disk.img").write_bytes(bytes(16 << 20))
    bench.offline = True
    disk = bench.build(blk.VirtioBlk, "disk0", file=str(tmp_path / "disk.img"))
    for offset in range(0, 16 << 20, 1 << 20):
        disk.backend.write(offset, b"w" * (1 << 20))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    state = disk.fingerprint()

    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert state["backend"] == disk.backend.content()
    assert state.keys() == disk.save().keys()
    assert most < 8 << 20
    disk.close()


def test_queue_reset_forgets_requests(driver, bench, fake):
    request(driver, IN, room=[512])
    driver.set(0x030, 0)
    driver.set(0x0C0, 1)
    queue = driver.add_queue(0, 8)

    bench.clock.advance(LONG)

    assert queue.used() == []


def test_close_finishes_writes_and_closes_the_disk(driver, disk, bench, fake):
    request(driver, OUT, data=[b"x" * 512])

    disk.close()

    assert fake.closed
    assert fake.calls == [("write", 0, 512)]


# -- snapshots ------------------------------------------------------------------------------------


def copy_of(bench, disk, make_disk, fake):
    """A second machine made from the first one's memory and state."""
    state = disk.save()
    other = Bench()
    other.memory.data[:] = bench.memory.data
    other.clock.advance(bench.clock.now())
    copy = make_disk(other, fake)
    copy.load(state)
    return other, copy


def test_requests_in_flight_complete_at_the_same_time_after_a_restore(
    driver, disk, bench, make_disk, fake
):
    request(driver, OUT, 4, data=[b"new" + bytes(509)])
    read = request(driver, IN, 4, room=[512])
    flush = request(driver, FLUSH)
    bench.clock.advance(LATENCY // 2)

    other, copy = copy_of(bench, disk, make_disk, type(fake)())
    other.clock.advance(LATENCY)
    bench.clock.advance(LATENCY)

    assert other.memory.data == bench.memory.data
    assert copy.save() == disk.save()
    address, size = read.room[0]
    assert other.memory.read(address, size)[:3] == b"new"
    assert other.memory.read(flush.room[0][0], 1) == b"\0"


def test_read_in_flight_keeps_what_it_read_before_a_later_write(
    driver, disk, bench, make_disk, fake
):
    read = request(driver, IN, 4, room=[512])
    request(driver, OUT, 4, data=[b"late" * 128])

    other, _ = copy_of(bench, disk, make_disk, type(fake)())
    other.clock.advance(LONG)

    address, size = read.room[0]
    assert other.memory.read(address, size) == bytes(range(256)) * 2


def test_saving_twice_gives_the_same_state(driver, disk):
    request(driver, IN, room=[512])

    assert disk.save() == disk.save()


def test_restoring_over_a_running_disk_drops_its_requests(driver, disk, bench, fake):
    state = disk.save()
    request(driver, OUT, data=[b"x" * 512])

    disk.load(state)
    bench.clock.advance(LONG)

    assert bytes(fake.data[:512]) == bytes(range(256)) * 2
    assert driver.queues[0].used() == []


def test_state_with_a_request_outside_memory_is_refused(driver, disk, bench):
    request(driver, IN, room=[512])
    state = disk.save()
    state["requests"][0]["writable"] = [[0x10, 513]]

    with pytest.raises(ValueError, match="outside RAM"):
        disk.load(state)
