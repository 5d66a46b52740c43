"""Exit codes, and which errors are sentences for a user rather than bugs.

Errors are told apart by their class's name: what raised one is imported already, and printing an
error imports nothing.
"""

from __future__ import annotations

OK, FAILED, DESCRIPTION, HOST, BUG, TIMEOUT = 0, 1, 2, 3, 70, 124

_HOST_ERRORS = {
    *("BackendError", "BootError", "EngineError", "FdtError", "ImageError", "SnapshotError"),
    "TraceError",
    "CaptureError",
    "HistoryError",
    "RecordingError",
    "HostError",
}


class HostError(Exception):
    """The host cannot do what the command line asks: one sentence."""


class Interrupted(BaseException):
    """A signal ended the program while no machine ran. No error, so nobody takes it for one."""

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted")
        self.code = 128 + signal


def exit_code(error: BaseException) -> int | None:
    """The code to exit with after printing `error`; None for what nobody foresaw.

    A description whose only faults are files that are missing or unreadable is right: there the
    host is at fault.
    """
    if isinstance(error, Interrupted):
        return error.code
    names = {base.__name__ for base in type(error).__mro__}
    if names & {"DescriptionError", "DeviceTypeError", "FilterError"}:
        return HOST if getattr(error, "host_only", False) else DESCRIPTION
    if "ReplayError" in names:
        return FAILED
    return HOST if names & _HOST_ERRORS else None
