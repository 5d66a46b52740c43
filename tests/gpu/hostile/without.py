"""Runs a command in which some system calls do not exist, as on an older or a stricter kernel:
python without.py NUMBER,NUMBER... COMMAND..."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ENOSYS = 0x7FFF_0000, 0x0005_0000 + 38
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


def main() -> None:
    program = [struct.pack("<HBBI", LOAD, 0, 0, 0)]
    for number in sys.argv[1].split(","):
        program.append(struct.pack("<HBBI", EQUAL, 0, 1, int(number)))
        program.append(struct.pack("<HBBI", RETURN, 0, 0, ENOSYS))
    program.append(struct.pack("<HBBI", RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(SECCOMP, FILTER, ctypes.create_string_buffer(header)) == 0
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
