"""Opens a network link as a machine's description says."""

from __future__ import annotations

from collections.abc import Callable

from devices.net.hub import HubPort, Hubs
from devices.net.link import Link, NoLink
from devices.net.options import NetOptions
from devices.net.passt import open_passt
from devices.net.pcap import PcapLink
from devices.net.tap import open_tap

PROCESS_HUBS = Hubs()
"""Where machines of this process meet by the names in their descriptions."""


def open_net(options: NetOptions, clock: Callable[[], int], *, hubs: Hubs = PROCESS_HUBS) -> Link:
    """The link that `options` describe; the host is touched when the device opens it.

    `clock` gives the virtual time in ns, for the recorded file.
    """
    link = _open_backend(options, hubs)
    return link if options.pcap is None else PcapLink(link, options.pcap, clock)


def _open_backend(options: NetOptions, hubs: Hubs) -> Link:
    match options.backend:
        case "none":
            return NoLink()
        case "passt":
            return open_passt(options)
        case "tap":
            return open_tap(options.interface)
        case "hub":
            return HubPort(hubs.named(options.hub))
