"""The repeater, the missing link and the way to the machine's thread."""

from __future__ import annotations

import threading

from devices.net import Hubs, NetOptions, NoLink, open_net

FRAME = bytes(range(60))


def ports(count, name="lan0", hubs=None):
    hubs = hubs or Hubs()
    options = NetOptions(backend="hub", hub=name)
    return [open_net(options, lambda: 0, hubs=hubs) for _ in range(count)]


def test_frame_reaches_every_other_port_at_its_safe_point(bench):
    sender, left, right = map(bench, ports(3))

    sender.link.send(FRAME)
    before = list(left.received)
    for machine in (sender, left, right):
        machine.pump()

    assert before == []
    assert (sender.received, left.received, right.received) == ([], [FRAME], [FRAME])


def test_frames_keep_their_order_and_need_one_post(bench):
    sender, hearer = map(bench, ports(2))
    frames = [bytes([n]) * 60 for n in range(100)]

    for frame in frames:
        sender.link.send(frame)
    posts = hearer.posted
    hearer.pump()

    assert hearer.received == frames
    assert posts == 1


def test_hubs_of_other_names_hear_nothing(bench):
    hubs = Hubs()
    sender, other = bench(*ports(1, "a", hubs)), bench(*ports(1, "b", hubs))

    sender.link.send(FRAME)
    other.pump()

    assert other.received == []


def test_machines_meet_by_the_name_in_their_descriptions(bench):
    options = NetOptions(backend="hub", hub="a name of this test")
    sender, hearer = (bench(open_net(options, lambda: 0)) for _ in range(2))

    sender.link.send(FRAME)
    hearer.pump()

    assert hearer.received == [FRAME]


def test_machine_that_does_not_run_loses_frames_beyond_the_limit(bench):
    sender, idle = map(bench, ports(2))

    for _ in range(5000):
        sender.link.send(FRAME)
    idle.pump()

    assert len(idle.received) == idle.link.stats.rx_frames == 4096
    assert idle.link.stats.rx_dropped == 5000 - 4096


def test_closed_port_hears_nothing_that_was_posted(bench):
    sender, hearer = map(bench, ports(2))
    sender.link.send(FRAME)

    hearer.link.close()
    sender.link.send(FRAME)
    hearer.pump()

    assert hearer.received == []


def test_frame_handler_that_closes_its_link_gets_no_more():
    sender, hearer = ports(2)
    posted, received = [], []
    sender.open(posted.append, received.append)
    hearer.open(posted.append, lambda frame: (received.append(frame), hearer.close()))

    sender.send(FRAME)
    sender.send(FRAME)
    posted[0]()

    assert received == [FRAME]


def test_wrong_lengths_and_closed_ports_are_counted(bench):
    sender = bench(*ports(1))

    sender.link.send(bytes(13))
    sender.link.send(bytes(65_551))
    sender.link.close()
    sender.link.send(FRAME)

    assert (sender.link.stats.tx_invalid, sender.link.stats.tx_dropped) == (2, 1)


def test_many_machines_on_threads_lose_nothing_within_the_limit(bench):
    hearer, *senders = map(bench, ports(5))
    threads = [
        threading.Thread(target=lambda s=s: [s.link.send(FRAME) for _ in range(500)])
        for s in senders
    ]

    for thread in threads:
        thread.start()
    hearer.wait(lambda: len(hearer.received) == 2000)
    for thread in threads:
        thread.join()

    assert hearer.link.stats.rx_dropped == 0


def test_hub_lives_as_long_as_a_port_of_it():
    hubs = Hubs()
    links = ports(2, "lan0", hubs)

    during = list(hubs._hubs)
    links.clear()

    assert during == ["lan0"]
    assert list(hubs._hubs) == []


def test_two_guests_talk_over_a_hub(guest):
    left, right = map(guest, ports(2))
    left.mac, right.mac = b"\x52\x54\0\0\0\1", b"\x52\x54\0\0\0\2"
    left.address, right.address = "10.1.0.1", "10.1.0.2"
    left.neighbours["10.1.0.2"], right.neighbours["10.1.0.1"] = right.mac, left.mac

    left.send_udp(7, "10.1.0.2", 9, b"over here")

    assert right.next_udp(9) == ("10.1.0.1", 7, b"over here")


def test_no_link_is_the_default_and_counts_what_is_lost(bench):
    link = open_net(NetOptions(), lambda: 0)
    bench = bench(link)

    bench.link.send(FRAME)

    assert isinstance(link, NoLink)
    assert (link.live, link.stats.tx_dropped, bench.received) == (False, 1, [])
