"""`hypervisor gpu`: what a virtual GPU was asked, from a capture file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.errors import FAILED
from tools.table import print_table

if TYPE_CHECKING:
    from gpu.capture_file import Record
    from gpu.protocol import Command
    from gpu.replay import Result

_SHOWN_BYTES = 24
_MOST_DIFFERENCES = 20


@click.group()
def gpu() -> None:
    """Show and repeat what a guest had a virtual GPU do.

    A device with the option `capture: FILE` writes it down.
    """


@gpu.command()
@click.argument("capture", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--programs",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Write the source code of programs there, as CONTEXT.ID.cl.",
)
def dump(capture: Path, programs: Path | None) -> None:
    """Print a capture, a command a line: virtual time in seconds, and what was asked."""
    from gpu import protocol
    from gpu.capture_file import CaptureReader

    with CaptureReader(capture) as reader:
        click.echo(_header(reader.header))
        for record in reader.records():
            click.echo(f"{record[1] / 1e9:14.9f} {_line(record)}")
            if record[0] != "submit":
                continue
            for packet in protocol.decode(record[5]):
                name = f"unknown {packet.opcode:#06x}"
                if packet.command is not None:
                    name = _command(packet.command)
                click.echo(f"{'':14}   {name}{'  ! ' + packet.reason if packet.reason else ''}")
                if programs is not None and isinstance(packet.command, protocol.CreateProgram):
                    _write_program(programs, record[2], packet.command)


@gpu.command()
@click.argument("capture", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--platform", metavar="NAME", help="Another OpenCL platform than the run's.")
@click.option("--device", metavar="NAME", help="Another OpenCL device than the run's.")
@click.option(
    "--program",
    "programs",
    multiple=True,
    metavar="CONTEXT.ID=FILE",
    help="Source code to use for a program instead of the guest's.",
)
def replay(
    capture: Path, platform: str | None, device: str | None, programs: tuple[str, ...]
) -> int:
    """Do a capture again, without the guest, and compare all that the device wrote.

    Exit code: 0 it is the same bit for bit; 1 it differs; 3 it cannot be done.
    """
    from gpu.capture_file import CaptureReader
    from gpu.replay import replay as do_again

    chosen = {"platform": platform, "device": device}
    opencl = {name: value for name, value in chosen.items() if value is not None}
    sources = dict(_source(text) for text in programs)
    with CaptureReader(capture) as reader:
        result = do_again(reader, opencl, sources)
    _report(result)
    return FAILED if result.differences else 0


def _header(header: dict[str, Any]) -> str:
    opencl = header["options"]["opencl"]
    base, size = header["memory"]
    return (
        f"{header['name']}: OpenCL platform {opencl['platform']}, device {opencl['device']}; "
        f"{size >> 20} MiB of RAM at {base:#x}"
    )


def _line(record: Record) -> str:
    kind, _, *fields = record
    match kind:
        case "context":
            return f"context {fields[0]} is made: {fields[1]}"
        case "close":
            return f"context {fields[0]} ends"
        case "grant":
            return f"context {fields[0]} is granted blob {fields[1]}: {_pieces(fields[2])}"
        case "revoke":
            return f"context {fields[0]} loses blob {fields[1]}"
        case "memory":
            return f"memory that is read: {_pieces([[at, len(data)] for at, data in fields[0]])}"
        case "submit":
            number, ring, tag, stream = fields
            return f"context {number} ring {ring}: submission {tag}, {len(stream)} bytes"
        case "done":
            number, ring, tag, written = fields
            wrote = f", wrote {_pieces([part[:2] for part in written])}" if written else ""
            return f"context {number} ring {ring}: submission {tag} is complete{wrote}"
    return "the GPU is reset"


def _pieces(pieces: list[list[int]]) -> str:
    return ", ".join(f"{size} bytes at {address:#x}" for address, size in pieces)


def _command(command: Command) -> str:
    fields = []
    for name, value in vars(command).items():
        if isinstance(value, bytes):
            cut = "..." if len(value) > _SHOWN_BYTES else ""
            value = f"{value[:_SHOWN_BYTES]!r}{cut}"
        fields.append(f"{name}={value}")
    return f"{command.name} {' '.join(fields)}"


def _write_program(directory: Path, context: int, command: Any) -> None:
    from tools.errors import HostError

    path = directory / f"{context}.{command.id}.cl"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_bytes(command.source)
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror}") from None


def _source(text: str) -> tuple[tuple[int, int], bytes]:
    """`CONTEXT.ID=FILE`, its file read."""
    where, _, file = text.partition("=")
    context, _, program = where.partition(".")
    if not (context.isdecimal() and program.isdecimal() and file):
        raise click.BadParameter(
            f"'{text}' is not CONTEXT.ID=FILE, such as 1.10=new.cl", param_hint="'--program'"
        )
    try:
        return (int(context), int(program)), Path(file).read_bytes()
    except OSError as error:
        raise click.BadParameter(
            f"{file} cannot be read: {error.strerror}", param_hint="'--program'"
        ) from None


def _report(result: Result) -> None:
    for message in result.messages:
        click.echo(f"hypervisor: {message}", err=True)
    for difference in result.differences[:_MOST_DIFFERENCES]:
        click.echo(f"differs: {difference}")
    more = len(result.differences) - _MOST_DIFFERENCES
    if more > 0:
        click.echo(f"differs: and {more} more")
    if result.kernels:
        rows = [
            (
                name,
                str(each.runs),
                str(each.items),
                f"{each.time / 1e3:.1f}",
                f"{each.longest / 1e3:.1f}",
            )
            for name, each in sorted(result.kernels.items(), key=lambda item: -item[1].time)
        ]
        print_table(("kernel", "runs", "work-items", "us", "longest us"), rows)
    if result.mistakes:
        mistakes = sorted(result.mistakes.items())
        print_table(
            ("kernel", "mistake", "times"),
            [(name, what, str(times)) for (name, what), times in mistakes],
        )
    verdict = "bit for bit the same" if not result.differences else "not the same"
    click.echo(
        f"{result.submissions} submissions, {result.completions} completions, "
        f"{result.output_bytes} bytes of output: {verdict} ({result.host_seconds:.2f} s)"
    )
