"""Recordings: everything that came into a machine's run, so that it can be made again.

Layout (integers little-endian): magic, u32 version; then records of u32 length, u32 CRC-32 and so
many bytes of CBOR. The first record is the header: the whole description, the digests of all files
that it names, of what devices keep beside them, and of the snapshot that the run began at, if it
did at one. Each other one is an input: [units since the one before, pc, late, kind, name,
data]. Records appear as the run goes, so what a crash leaves can be replayed up to there.

A second of virtual time in which the machine executes brings a check of some bytes: a run that is
not the recorded one is noticed there.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cbor2

from hypervisor.config.description import Description
from hypervisor.config.files import CheckImage, file_references
from hypervisor.config.loader import load_text
from hypervisor.inputs import Input, ReplayError
from hypervisor.outcome import Outcome
from hypervisor.time.clock import to_nanoseconds, to_units

if TYPE_CHECKING:
    from hypervisor.machine import Machine

MAGIC = b"HVREC\r\n\x1a"
VERSION = 2
CHECK_UNITS = to_units(1_000_000_000)
"""Virtual time between two checks."""
_RECORD = struct.Struct("<II")
_PREFIX = struct.Struct("<8sI")
_RECORD_LIMIT = 64 << 20
_CHECK_BYTES = 8


class RecordingError(Exception):
    """A recording cannot be made or used: one sentence naming the file."""


@dataclass(frozen=True)
class Snapshot:
    """The snapshot that a recorded run began at."""

    path: str
    """Where it was."""
    sha256: str
    """Of the file."""

    @classmethod
    def of(cls, path: Path) -> Snapshot:
        return cls(str(path.absolute()), _file_digest(path))

    def plain(self) -> list[str]:
        return [self.path, self.sha256]

    def find(self, path: Path | None = None) -> Path:
        """The file: where it was, or at `path` if it is elsewhere now. Raises RecordingError when
        it is not there, or another."""
        file = Path(self.path) if path is None else path
        try:
            digest = _file_digest(file)
        except OSError as error:
            raise RecordingError(
                f"the recording begins at the snapshot {file}, which cannot be read: "
                f"{error.strerror}; --restore names it where it is now"
            ) from None
        if digest != self.sha256:
            raise RecordingError(
                f"the snapshot {file} is not the one that the recording begins at: "
                f"its sha256 is {digest}, not {self.sha256}"
            )
        return file


@dataclass(frozen=True)
class Recording:
    """What a file holds."""

    path: Path
    machine: str
    """The description that was run, as it was named."""
    source: bytes
    """The same, whole, with files as absolute paths."""
    digest: str
    """Of the description as it was written, by which snapshots know it."""
    files: dict[str, str]
    """sha256 of each file that the description names."""
    snapshot: Snapshot | None = None
    """What the run began at; None: when the machine was switched on."""
    states: dict[str, bytes] = field(default_factory=dict)
    """A digest of each device's state at the beginning, by its name."""
    items: list[Input] = field(default_factory=list)

    def description(self, check_image: CheckImage | None = None) -> Description:
        """What was run. Raises DescriptionError where its files are gone."""
        described = load_text(self.source, self.machine, check_image=check_image)
        return replace(described, digest=self.digest)

    @property
    def is_whole(self) -> bool:
        """It goes to the end of the run."""
        return bool(self.items) and self.items[-1].kind == "end"


class Recorder:
    """Writes down what comes into `machine`, from now to `close`."""

    def __init__(
        self, machine: Machine, path: Path, files: dict[str, str], snapshot: Path | None = None
    ) -> None:
        """Raises RecordingError. `files`: what `file_digests` gave before the machine was built.
        `snapshot`: what it was restored from just now; without one it was just switched on."""
        description = machine.description
        if description.seed is None or description.clock.epoch == "host":
            raise RecordingError(
                "a recording needs a seed and a date: set boot.rng_seed and clock.epoch"
            )
        if machine.clock.cell.units and snapshot is None:
            raise RecordingError("a recording begins when a machine is switched on or restored")
        self._machine = machine
        self._path = path
        self._before = 0
        self._executed = machine.clock.executed
        self._failed = False
        try:
            self._file: BinaryIO = path.open("wb")
        except OSError as error:
            raise _cannot_write(path, error) from None
        self._file.write(_PREFIX.pack(MAGIC, VERSION))
        header = {
            "machine": description.path,
            "source": description.source,
            "digest": description.digest,
            "files": files,
            "snapshot": None if snapshot is None else Snapshot.of(snapshot).plain(),
            "states": device_digests(machine),
        }
        self._write(header)
        machine.inputs.listeners.append(self._heard)
        machine.loop.look_at = machine.clock.cell.units + CHECK_UNITS
        machine.loop.on_look = self._check

    def changed(self, what: str) -> None:
        """A debugger has changed the machine: no replay can go beyond."""
        self._machine.inputs.tell("change", what, b"")

    def close(self) -> None:
        """The run is over. Raises RecordingError when the file could not be written."""
        machine = self._machine
        if not machine.turns.present.is_midway:
            machine.inputs.tell("end", "", bytes.fromhex(machine.state_sha256()))
        self.abandon()
        if self._failed:
            raise RecordingError(f"the recording {self._path} could not be written to its end")

    def abandon(self) -> None:
        """Let go of the file, whatever it holds."""
        if self._heard in self._machine.inputs.listeners:
            self._machine.inputs.listeners.remove(self._heard)
            self._machine.loop.look_at = None
            try:
                self._file.close()
            except OSError:
                self._failed = True

    def _heard(self, item: Input) -> None:
        if item.at < self._before and not self._failed:
            self._failed = True
            self._machine.log(f"the recording {self._path} ends here: the machine was taken back")
        self._write([item.at - self._before, item.pc, item.late, item.kind, item.name, item.data])
        self._before = item.at

    def _check(self) -> None:
        clock = self._machine.clock
        self._machine.loop.look_at = clock.cell.units + CHECK_UNITS
        if clock.executed != self._executed:
            self._executed = clock.executed
            self._machine.inputs.tell("check", "", state_check(self._machine))
            self._attempt(self._file.flush)

    def _write(self, record: object) -> None:
        body = cbor2.dumps(record)
        self._attempt(self._file.write, _RECORD.pack(len(body), zlib.crc32(body)) + body)

    def _attempt(self, call: Any, *arguments: Any) -> None:
        """The machine goes on when the disk is full; the end says so."""
        try:
            if not self._failed:
                call(*arguments)
        except OSError as error:
            self._failed = True
            self._machine.log(str(_cannot_write(self._path, error)))


class Replayer:
    """Lets the inputs of a recording come into `machine`, which has just been switched on with
    nothing outside (`Machine(..., offline=True)`), or restored from the recording's snapshot. Its
    run raises ReplayError where it is not the
    recorded one, and ends with outcome `replayed` where the recording does."""

    def __init__(self, machine: Machine, recording: Recording) -> None:
        """Raises RecordingError where a device is not as it was."""
        self._machine = machine
        here = device_digests(machine)
        for name, digest in recording.states.items():
            if here.get(name) != digest:
                raise RecordingError(
                    f"{name} is not what it was when {recording.path} was recorded: what it keeps "
                    "in files of the host has changed since, or this program has"
                )
        self.state: str | None = None
        """Digest of the machine at the end, once that is reached."""
        items = list(recording.items)
        if not recording.is_whole and items:
            last = items[-1]
            items.append(Input(last.at, last.pc, last.late, "cut", "", b""))
        machine.inputs.checks = self._take
        machine.inputs.replay(items)

    def _take(self, item: Input) -> None:
        machine = self._machine
        if item.kind == "check":
            if item.data != state_check(machine):
                raise ReplayError(f"the run is not the one recorded: {self._place(item)}")
        elif item.kind == "change":
            sentence = f"a debugger changed {item.name} here, at {_time(item.at)}"
            machine.inputs.outcome = Outcome("replayed", f"the replay ends: {sentence}")
        elif item.kind == "end":
            self.state = item.data.hex()
            machine.inputs.outcome = Outcome("replayed", "the recording ends here")
        elif item.kind == "cut":
            sentence = "the recording ends here, without the end of its run"
            machine.inputs.outcome = Outcome("replayed", sentence)
        else:
            raise ReplayError(f"the machine has nothing that takes {item.kind} {item.name}")

    def _place(self, item: Input) -> str:
        hart = self._machine.turns.present
        return (
            f"its state differs at {_time(item.at)}, with hart {hart.index} at {hart.pc:#x} and "
            f"{self._machine.clock.executed} bytes of code executed"
        )


def state_check(machine: Machine) -> bytes:
    """A short digest of what a run that went another way would not have the same."""
    state = [
        machine.clock.executed,
        [[hart.executed, hart.pc, *hart.registers.values()] for hart in machine.cpu],
        machine.console.written,
        hashlib.sha256(machine.console.output).digest(),
    ]
    return hashlib.sha256(cbor2.dumps(state)).digest()[:_CHECK_BYTES]


def device_digests(machine: Machine) -> dict[str, bytes]:
    """A digest of each device's state, by its name."""
    return {
        name: hashlib.sha256(cbor2.dumps(device.fingerprint(), canonical=True)).digest()
        for name, device in machine.devices.items()
    }


def file_digests(description: Description) -> dict[str, str]:
    """sha256 of each file that a description names, by its name there. Raises OSError."""
    parts = [description.boot, *(entry.options for entry in description.devices.values())]
    names = {str(file) for part in parts for _, file in file_references(part)}
    digests = {}
    for name in sorted(names):
        path = Path(description.resolve(name))
        if path.is_file():
            digests[name] = _file_digest(path)
    return digests


def read_recording(path: Path) -> Recording:
    """What is in a file, up to where it was cut. Raises RecordingError."""
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        raise RecordingError(f"the recording {path} cannot be read: {error.strerror}") from None


def check_files(recording: Recording, description: Description) -> None:
    """Refuse other files than those that were recorded with, with RecordingError."""
    try:
        here = file_digests(description)
    except OSError as error:
        raise RecordingError(f"{error.filename} cannot be read: {error.strerror}") from None
    for name, digest in recording.files.items():
        if here.get(name) != digest:
            raise RecordingError(
                f"{name} is not what it was when {recording.path} was recorded: "
                f"its sha256 is {here.get(name, 'unknown')}, not {digest}"
            )


def _read(path: Path, file: BinaryIO) -> Recording:
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or prefix[:8] != MAGIC:
        raise RecordingError(f"{path} is not a recording")
    (version,) = struct.unpack("<I", prefix[8:])
    if version != VERSION:
        raise RecordingError(
            f"{path} is a recording of format {version}; this program reads {VERSION}"
        )
    records = _records(path, file)
    damaged = RecordingError(f"the recording {path} is damaged: its header cannot be read")
    header = next(records, None)
    if not isinstance(header, dict):
        raise damaged
    try:
        snapshot = None if header["snapshot"] is None else Snapshot(*header["snapshot"])
        recording = Recording(
            *(path, header["machine"], header["source"], header["digest"], header["files"]),
            *(snapshot, header["states"]),
        )
    except (KeyError, TypeError):
        raise damaged from None
    at = 0
    for record in records:
        try:
            delta, pc, late, kind, name, data = record
            at += delta
            recording.items.append(Input(at, pc, late, kind, name, data))
        except (TypeError, ValueError):
            raise RecordingError(f"the recording {path} is damaged: it holds no input") from None
    return recording


def _records(path: Path, file: BinaryIO) -> Iterator[Any]:
    """Every whole record. One that is cut off is the end; one that is wrong is an error."""
    while len(prefix := file.read(_RECORD.size)) == _RECORD.size:
        at = file.tell()
        length, checksum = _RECORD.unpack(prefix)
        damaged = RecordingError(f"the recording {path} is damaged at byte {at}")
        if length > _RECORD_LIMIT:
            raise damaged
        body = file.read(length)
        if len(body) < length:
            return
        if zlib.crc32(body) != checksum:
            raise damaged
        try:
            yield cbor2.load(io.BytesIO(body))
        except (cbor2.CBORDecodeError, ValueError):
            raise damaged from None


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _time(units: int) -> str:
    return f"{to_nanoseconds(units) / 1e9:.6f} s"


def _cannot_write(path: Path, error: OSError) -> RecordingError:
    return RecordingError(f"the recording {path} cannot be written: {error.strerror}")
