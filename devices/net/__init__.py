"""Network links to the host: `open_net` makes what a description asks for."""

from devices.net.hub import Hub, HubPort, Hubs
from devices.net.link import Link, NetStats, NoLink
from devices.net.opening import open_net
from devices.net.options import NetOptions
from devices.net.pcap import PcapLink

__all__ = [
    "Hub",
    "HubPort",
    "Hubs",
    "Link",
    "NetOptions",
    "NetStats",
    "NoLink",
    "PcapLink",
    "open_net",
]
