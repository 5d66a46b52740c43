"""What may be said of a display."""

import pytest
from pydantic import ValidationError

from gpu.display.options import DisplayOptions


@pytest.mark.parametrize(
    ("vnc", "address"),
    [
        (None, None),
        ("127.0.0.1:5900", ("127.0.0.1", 5900)),
        ("5901", ("127.0.0.1", 5901)),
        (0, ("127.0.0.1", 0)),
        (":5900", ("127.0.0.1", 5900)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:5900", ("::1", 5900)),
    ],
)
def test_address_is_the_loopbacks_unless_it_says_another(vnc, address):
    assert DisplayOptions(vnc=vnc).address == address


@pytest.mark.parametrize("vnc", ["0.0.0.0:5900", "example.org:5900", "[::]:5900", "10.0.0.1:1"])
def test_server_for_other_hosts_needs_a_password(vnc):
    with pytest.raises(ValidationError, match="give it a password"):
        DisplayOptions(vnc=vnc)

    assert DisplayOptions(vnc=vnc, password="secret").address is not None


@pytest.mark.parametrize("vnc", ["here", "1.2.3.4", "host:port", "localhost:65536", "a b:1", ""])
def test_address_that_is_none_is_refused(vnc):
    with pytest.raises(ValidationError, match="no address such as"):
        DisplayOptions(vnc=vnc)


@pytest.mark.parametrize("password", ["", "123456789", "\u4f60\u597d"])
def test_password_that_the_scheme_cannot_use_is_refused(password):
    with pytest.raises(ValidationError, match="VNC"):
        DisplayOptions(vnc="5900", password=password)


@pytest.mark.parametrize("size", [{"width": 63}, {"height": 4096}, {"memory": 0}])
def test_size_that_cannot_be_is_refused(size):
    with pytest.raises(ValidationError):
        DisplayOptions(**size)
