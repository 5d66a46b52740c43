"""`hypervisor profile`: a profiled run, its figures as tables and in files for other tools."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hypervisor.profile.coverage import Stretch, edges, stretches
from hypervisor.profile.drcov import Module
from hypervisor.profile.profile import MODES, Profile
from hypervisor.profile.symbols import SymbolError, SymbolFile
from hypervisor.time.clock import to_nanoseconds
from tools.errors import HostError
from tools.run import Request, check_output, run, say
from tools.table import print_table

if TYPE_CHECKING:
    from hypervisor.machine import Machine


@dataclass(frozen=True)
class Outputs:
    """What is to be shown and written."""

    top: int = 30
    folded: Path | None = None
    speedscope: Path | None = None
    drcov: Path | None = None
    lcov: Path | None = None


def profile_machine(
    request: Request, period: int, symbols: Sequence[str], exact: bool, outputs: Outputs
) -> int:
    """Run what is requested and print its profile; the run's exit code. Raises HostError for
    files that cannot be read or written."""
    try:
        files = [SymbolFile.load(spec) for spec in symbols]
    except SymbolError as error:
        raise HostError(str(error)) from None
    for name in ("folded", "speedscope", "drcov", "lcov"):
        path = getattr(outputs, name)
        if path is not None:
            check_output(f"{name} file", path)
    exact = exact or outputs.drcov is not None or outputs.lcov is not None

    @contextmanager
    def profiled(machine: Machine) -> Iterator[None]:
        profile = Profile(machine, period, files, exact)
        try:
            yield
        finally:
            profile.close()
        show(profile, outputs.top)
        try:
            _write(profile, files, outputs)
        except OSError as error:
            raise HostError(f"{error.filename} cannot be written: {error.strerror}") from None

    return run(replace(request, tool=profiled))


# -- tables -----------------------------------------------------------------------------------


def show(profile: Profile, top: int) -> None:
    """Print a profile's tables."""
    account, machine = profile.account, profile.machine
    executed, idle = to_nanoseconds(account.executed), to_nanoseconds(account.idle)
    click.echo(
        f"{machine.description.machine}: {time(executed)} executed and {time(idle)} idle of "
        f"virtual time; {profile.samples} samples, one each {time(profile.sampler.period)}\n"
    )
    modes = profile.modes()
    print_table(
        ("mode", "share", "bytes of code"),
        [
            (mode, share(modes[mode], account.executed), str(modes[mode]))
            for mode in MODES
            if modes.get(mode)
        ],
    )
    click.echo()
    _show_functions(profile, top)
    _show_devices(profile)
    _show_interrupts(profile)
    _show_traps(profile)


def _show_functions(profile: Profile, top: int) -> None:
    taken = profile.samples * profile.sampler.period
    header, rows = ["self", "total"], []
    if profile.coverage is not None:
        header.append("bytes")
    for row in profile.functions()[:top]:
        cells = [share(row.own, taken), share(row.total, taken)]
        if row.exact is not None:
            cells.append(str(row.exact))
        rows.append([*cells, row.name])
    print_table([*header, "function"], rows)


def _show_devices(profile: Profile) -> None:
    devices = profile.account.devices()
    if devices:
        click.echo()
        print_table(
            ("device", "reads", "writes", "host time"),
            [(d.name, str(d.reads), str(d.writes), time(d.host_ns)) for d in devices],
        )


def _show_interrupts(profile: Profile) -> None:
    lines = sorted(profile.account.interrupts.values(), key=lambda line: -line.raised)
    if lines:
        click.echo()
        print_table(
            ("interrupt", "raised", "taken up after", "at most", "served after", "at most"),
            [
                (
                    *(i.name, str(i.raised), time(i.taken_up.mean), time(i.taken_up.worst)),
                    *(time(i.high.mean), time(i.high.worst)),
                )
                for i in lines
            ],
        )


def _show_traps(profile: Profile) -> None:
    rows = sorted(profile.account.traps.items(), key=lambda each: (each[0][0], -each[1]))
    if rows:
        click.echo()
        print_table(
            ("hart", "trap", "times"),
            [(str(hart), name, str(times)) for (hart, _, name), times in rows],
        )


def share(part: int, whole: int) -> str:
    """`12.3 %`."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def time(nanoseconds: int) -> str:
    """A duration in the unit that suits it: `1.234 ms`."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.4g} {unit}"
    return f"{nanoseconds} ns"


# -- files ------------------------------------------------------------------------------------


def _write(profile: Profile, files: Sequence[SymbolFile], outputs: Outputs) -> None:
    from hypervisor.profile import stacks
    from hypervisor.profile.drcov import drcov

    if outputs.folded is not None:
        outputs.folded.write_text(stacks.folded(profile))
    if outputs.speedscope is not None:
        outputs.speedscope.write_text(json.dumps(stacks.speedscope(profile)))
    if outputs.drcov is None and outputs.lcov is None:
        return
    if profile.coverage is not None and profile.coverage.lost:
        say(f"{profile.coverage.lost} stretches of code were not counted: take a shorter --period")
    covered = stretches(profile.runs())
    if outputs.drcov is not None:
        outputs.drcov.write_bytes(drcov(covered, _modules(profile.machine, files)))
    if outputs.lcov is not None:
        outputs.lcov.write_text(_lcov(profile, files, covered))


def _modules(machine: Machine, files: Sequence[SymbolFile]) -> list[Module]:
    """What is known to be where: the programs that were booted, and those whose symbols were
    given."""
    found = [
        Module(file.path, start + file.offset, end + file.offset)
        for file in files
        if file.is_program
        for start, end in _spans(file.data)
    ]
    for program in machine.programs:
        start = program.address
        if start is None and program.name == machine.description.boot.firmware:
            start = machine.memory.base  # where firmware is put unless it says
        if start is not None:
            found.append(Module(program.name, start, start + program.size))
    return found


def _spans(data: bytes) -> list[tuple[int, int]]:
    from elftools.elf.elffile import ELFFile

    segments = [each.header for each in ELFFile(io.BytesIO(data)).iter_segments()]
    loaded = [each for each in segments if each["p_type"] == "PT_LOAD" and each["p_memsz"]]
    if not loaded:
        return []
    ends = [each["p_vaddr"] + each["p_memsz"] for each in loaded]
    return [(min(each["p_vaddr"] for each in loaded), max(ends))]


def _lcov(profile: Profile, files: Sequence[SymbolFile], covered: Sequence[Stretch]) -> str:
    from hypervisor.profile.lcov import Executed, LcovError, lcov

    taken = edges(profile.runs())
    programs = [(file.data, file.path, file.offset) for file in files if file.is_program]
    programs += [(data, name, 0) for data, name in _booted(profile.machine)]
    parts, problems = [], []
    for data, name, offset in programs:
        try:
            parts.append(lcov(data, name, Executed(covered, taken, offset)))
        except LcovError as error:
            problems.append(str(error))
    if not parts:
        raise HostError("; ".join(problems) or "no ELF program was booted: give one by --symbols")
    for problem in problems:
        say(problem)
    return "".join(parts)


def _booted(machine: Machine) -> list[tuple[bytes, str]]:
    """The ELF programs that the machine booted."""
    from hypervisor.boot.loader import read_file

    boot = machine.description.boot
    found = []
    for file in (boot.firmware, boot.kernel):
        if file is not None:
            data = read_file(machine.description.resolve(file), str(file))
            if data.startswith(b"\x7fELF"):
                found.append((data, str(file)))
    return found
