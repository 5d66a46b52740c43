"""The virtio entropy source."""

import pytest

from devices.virtio.rng import MAX_REQUEST, VirtioRng
from hypervisor.device.testing import Bench
from hypervisor.device.virtio.testing import GuestDriver


def start(bench, name="rng0", **options):
    device = bench.build(VirtioRng, name, **options)
    driver = GuestDriver(device, bench)
    driver.start()
    return device, driver


def ask(driver, room=32):
    offer = driver.queues[0].offer((), room)
    driver.notify(0)
    return offer.data()


def stream(machine_seed, name="rng0", **options):
    _, driver = start(Bench(seed=machine_seed), name, **options)
    return [ask(driver), ask(driver)]


def test_buffer_is_filled(bench):
    _, driver = start(bench)

    data = ask(driver, room=1000)

    assert driver.queues[0].used() == [(0, 1000)]
    assert len(set(data)) > 200


def test_same_seed_gives_the_same_bytes_in_every_run():
    assert stream(7) == stream(7)


def test_requests_seeds_and_devices_differ():
    streams = [stream(7), stream(8), stream(7, seed=9), stream(7, "rng1")]

    assert len({block for pair in streams for block in pair}) == 8


@pytest.mark.parametrize(("machine", "options"), [(7, {"seed": "host"}), (None, {})])
def test_host_randomness_differs_from_run_to_run(machine, options):
    assert stream(machine, **options) != stream(machine, **options)


def test_request_is_bounded(bench):
    _, driver = start(bench)
    offer = driver.queues[0].offer((), room=MAX_REQUEST + 100)

    driver.notify(0)

    assert driver.queues[0].used() == [(offer.head, MAX_REQUEST)]


def test_buffer_to_read_gets_nothing(bench):
    _, driver = start(bench)
    offer = driver.queues[0].offer(b"not for you")

    driver.notify(0)

    assert driver.queues[0].used() == [(offer.head, 0)]


def test_stream_goes_on_after_a_restore(bench):
    device, driver = start(bench)
    ask(driver)
    state = device.save()
    expected = ask(driver)
    other, again = start(Bench())

    other.load(state)
    again.start()

    assert ask(again) == expected
