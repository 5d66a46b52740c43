"""What a description may say about a network link."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Forward(NamedTuple):
    """A port of the host that leads into the guest."""

    protocol: str
    address: str
    host_port: int
    guest_port: int


def parse_forward(text: str) -> Forward:
    """`tcp:127.0.0.1:8080:80` or `tcp:8080:80`. Raises ValueError with one sentence."""
    match = re.fullmatch(r"(tcp|udp):(?:([^:]+):)?([0-9]{1,5}):([0-9]{1,5})", text)
    if match is None:
        raise ValueError(
            f"'{text}' is not PROTOCOL:[ADDRESS:]HOST_PORT:GUEST_PORT such as tcp:127.0.0.1:8080:80"
        )
    address = _ipv4(match[2] or "127.0.0.1")
    ports = int(match[3]), int(match[4])
    for port in ports:
        if not 1 <= port <= 65535:
            raise ValueError(f"'{text}' has the port {port}, ports are 1 to 65535")
    return Forward(match[1], address, *ports)


def check_interface(name: str) -> str:
    """A name that Linux takes for an interface, and takes literally."""
    if not re.fullmatch(r"[^\s/:%\0]{1,15}", name) or name in (".", "..") or not name.isascii():
        raise ValueError(
            f"'{name}' is not an interface name: 1 to 15 ASCII characters without spaces, "
            "'/', ':' and '%'"
        )
    return name


def _forward(text: str) -> str:
    parse_forward(text)
    return text


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(f"'{text}' is not an IPv4 address such as 10.0.2.15") from None


def _network(text: str) -> str:
    match = re.fullmatch(r"([^/]+)/([0-9]{1,2})", text)
    if match is None or not 1 <= int(match[2]) <= 30:
        raise ValueError(
            f"'{text}' is not an IPv4 address with a prefix of 1 to 30 bits such as 10.0.2.15/24"
        )
    return f"{_ipv4(match[1])}/{int(match[2])}"


IPv4 = Annotated[str, AfterValidator(_ipv4)]

_BELONGS = {
    "passt": ("forward", "address", "gateway", "dns", "mtu"),
    "tap": ("interface",),
    "hub": ("hub",),
}


class NetOptions(BaseModel):
    """Where a network device's frames go. A device's own options may derive from it.

    An option of a backend other than the chosen one is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["none", "passt", "tap", "hub"] = Field(
        default="none",
        description="none, passt (user mode), tap (an interface of the host) or hub (machines of "
        "this process)",
    )
    pcap: str | None = Field(
        default=None, min_length=1, description="write all frames to this file, in virtual time"
    )
    forward: tuple[Annotated[str, AfterValidator(_forward)], ...] = Field(
        default=(),
        description="passt: ports into the guest, PROTOCOL:[ADDRESS:]HOST_PORT:GUEST_PORT; the "
        "host's address is 127.0.0.1 unless given",
    )
    address: Annotated[str, AfterValidator(_network)] = Field(
        default="10.0.2.15/24", description="passt: the guest's address by DHCP"
    )
    gateway: IPv4 = Field(
        default="10.0.2.2", description="passt: the gateway, which is also the host's loopback"
    )
    dns: tuple[IPv4, ...] | None = Field(
        default=None, description="passt: name servers by DHCP; the host's unless given"
    )
    mtu: int = Field(default=1500, ge=576, le=65520, description="passt: the MTU by DHCP")
    interface: Annotated[str, AfterValidator(check_interface)] = Field(
        default="tap0", description="tap: the interface, made when it is not there"
    )
    hub: str = Field(default="lan0", min_length=1, description="hub: its name in this process")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = [
            f"`{name}` is an option of backend {backend}, this one is {self.backend}"
            for backend, names in _BELONGS.items()
            for name in names
            if name in self.model_fields_set and backend != self.backend
        ]
        network = ipaddress.IPv4Interface(self.address)
        gateway = ipaddress.IPv4Address(self.gateway)
        if gateway not in network.network or gateway == network.ip:
            problems.append(
                f"the gateway {gateway} must be another address in the guest's network "
                f"{network.network}"
            )
        seen: set[tuple[str, int]] = set()
        for text in self.forward:
            forward = parse_forward(text)
            key = forward.protocol, forward.host_port
            if key in seen:
                problems.append(f"`forward` has {key[0]} port {key[1]} of the host twice")
            seen.add(key)
        if problems:
            raise ValueError("; ".join(problems))
        return self
