"""VNC authentication: a challenge that the client encrypts with the password (RFC 6143, 7.2.2).

It keeps out who does not know the password, and nothing more: what follows is not encrypted, and
DES with 8 characters is soon guessed by who listens.
"""

from __future__ import annotations

import hmac

from Cryptodome.Cipher import DES

CHALLENGE_SIZE = 16
_KEY_SIZE = 8


def is_right(password: str, challenge: bytes, response: bytes) -> bool:
    """Whether `response` is the challenge encrypted with the password, which is Latin-1."""
    key = password.encode("latin-1")[:_KEY_SIZE].ljust(_KEY_SIZE, b"\0")
    # The first implementation had the bits of each byte in the other order, and so have all.
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    expected = DES.new(mirrored, DES.MODE_ECB).encrypt(challenge)
    return hmac.compare_digest(expected, response)
