"""Keys: X11's names, which VNC sends, as Linux's numbers of the keys of a US keyboard.

Keysyms: RFC 6143, section 7.5.4, and X11's keysymdef.h. Key numbers: Linux's input-event-codes.h.
"""

from __future__ import annotations

LEFT_SHIFT, RIGHT_SHIFT = 42, 54

_ROWS = (
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", ""),
)

_NAMED = {
    0xFE03: 100,  # AltGr
    0xFF08: 14,  # BackSpace
    0xFF09: 15,  # Tab
    0xFF0D: 28,  # Return
    0xFF13: 119,  # Pause
    0xFF14: 70,  # Scroll Lock
    0xFF15: 99,  # SysRq
    0xFF1B: 1,  # Escape
    0xFF50: 102,  # Home
    0xFF51: 105,  # Left
    0xFF52: 103,  # Up
    0xFF53: 106,  # Right
    0xFF54: 108,  # Down
    0xFF55: 104,  # Page Up
    0xFF56: 109,  # Page Down
    0xFF57: 107,  # End
    0xFF61: 99,  # Print
    0xFF63: 110,  # Insert
    0xFF67: 127,  # Menu
    0xFF7F: 69,  # Num Lock
    0xFF8D: 96,  # keypad's Enter
    0xFFAA: 55,  # keypad's *
    0xFFAB: 78,  # keypad's +
    0xFFAD: 74,  # keypad's -
    0xFFAE: 83,  # keypad's .
    0xFFAF: 98,  # keypad's /
    0xFFC8: 87,  # F11
    0xFFC9: 88,  # F12
    0xFFE1: LEFT_SHIFT,
    0xFFE2: RIGHT_SHIFT,
    0xFFE3: 29,  # Control, left and right
    0xFFE4: 97,
    0xFFE5: 58,  # Caps Lock
    0xFFE7: 125,  # Meta, left and right
    0xFFE8: 126,
    0xFFE9: 56,  # Alt, left and right
    0xFFEA: 100,
    0xFFEB: 125,  # Super, left and right
    0xFFEC: 126,
    0xFFFF: 111,  # Delete
}
_KEYPAD_DIGITS = (82, 79, 80, 81, 75, 76, 77, 71, 72, 73)


def _table() -> dict[int, tuple[int, bool]]:
    table = {keysym: (code, False) for keysym, code in _NAMED.items()}
    for first, plain, shifted in _ROWS:
        table |= {ord(letter): (first + at, False) for at, letter in enumerate(plain)}
        table |= {ord(letter): (first + at, True) for at, letter in enumerate(shifted)}
    table |= {0xFFB0 + digit: (code, False) for digit, code in enumerate(_KEYPAD_DIGITS)}
    table |= {0xFFBE + number: (59 + number, False) for number in range(10)}
    return table


KEYS = _table()
"""(Linux's key number, whether it takes Shift) by keysym."""


class Keyboard:
    """One client's keys. Shift is pressed for those who send a capital letter without it."""

    def __init__(self) -> None:
        self._held: dict[int, list[int]] = {}

    def event(self, keysym: int, down: bool) -> list[tuple[int, bool]]:
        """What happens to keys: (key number, whether it goes down), in order."""
        if not down:
            return [(code, False) for code in reversed(self._held.pop(keysym, []))]
        if keysym not in KEYS:
            return []
        code, takes_shift = KEYS[keysym]
        if keysym in self._held:
            return [(code, True)]  # it repeats
        shifted = any(LEFT_SHIFT in held or RIGHT_SHIFT in held for held in self._held.values())
        self._held[keysym] = [LEFT_SHIFT, code] if takes_shift and not shifted else [code]
        return [(each, True) for each in self._held[keysym]]

    def release(self) -> list[tuple[int, bool]]:
        """The client is gone: its keys go up."""
        return [action for keysym in list(self._held) for action in self.event(keysym, False)]
