"""What a description may say about a link, and the sentences for what it may not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from devices.net import NetOptions
from devices.net.options import Forward, parse_forward


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("tcp:127.0.0.1:8080:80", Forward("tcp", "127.0.0.1", 8080, 80)),
        ("udp:5353:53", Forward("udp", "127.0.0.1", 5353, 53)),
        ("tcp:0.0.0.0:2222:22", Forward("tcp", "0.0.0.0", 2222, 22)),
    ],
)
def test_forward_is_parsed(text, forward):
    assert parse_forward(text) == forward


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backend": "past"}, "'none', 'passt', 'tap' or 'hub'"),
        ({"backend": "passt", "forward": ["8080:80"]}, "such as tcp:127.0.0.1:8080:80"),
        ({"backend": "passt", "forward": ["tcp:0:80"]}, "ports are 1 to 65535"),
        ({"backend": "passt", "forward": ["tcp:1:65536"]}, "has the port 65536"),
        ({"backend": "passt", "forward": ["tcp:1.2.3:1:1"]}, "not an IPv4 address"),
        (
            {"backend": "passt", "forward": ["tcp:1:1", "tcp:1:2"]},
            "has tcp port 1 of the host twice",
        ),
        ({"backend": "passt", "address": "10.0.2.15"}, "prefix of 1 to 30 bits"),
        ({"backend": "passt", "address": "10.0.2.15/31"}, "prefix of 1 to 30 bits"),
        ({"backend": "passt", "gateway": "10.0.3.2"}, "in the guest's network 10.0.2.0/24"),
        ({"backend": "passt", "gateway": "10.0.2.15"}, "must be another address"),
        ({"backend": "passt", "dns": ["one.one"]}, "not an IPv4 address"),
        ({"backend": "tap", "interface": "a" * 16}, "1 to 15 ASCII characters"),
        ({"backend": "tap", "interface": "tap%d"}, "not an interface name"),
        ({"backend": "tap", "interface": ".."}, "not an interface name"),
        ({"backend": "tap", "forward": ["tcp:1:1"]}, "`forward` is an option of backend passt"),
        ({"hub": "lan0"}, "`hub` is an option of backend hub, this one is none"),
        ({"bakend": "tap"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_option_is_refused_with_a_sentence(options, sentence):
    with pytest.raises(ValidationError) as refusal:
        NetOptions(**options)

    assert sentence in str(refusal.value)
