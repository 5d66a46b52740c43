"""Whatever is wrong with what a user gives is one sentence, the right exit code, no traceback."""

import struct

import pytest

DISK = "devices.disk0={type: virtio.blk, at: 0x1000_1000, irq: plic.1, file: FILE}"

# What is wrong, the command line, its exit code, and what the sentence says.
TABLE = [
    # the command line itself
    ("unknown command", ["rnu"], 2, "No such command 'rnu'"),
    ("no machine", ["run"], 2, "Missing argument 'MACHINE.yaml'"),
    ("unknown option", ["run", "board.yaml", "--untill", "x"], 2, "No such option '--untill'"),
    ("option without value", ["run", "board.yaml", "--until"], 2, "requires an argument"),
    ("empty text", ["run", "board.yaml", "--until", ""], 2, "'--until': it is empty"),
    ("bad escape", ["run", "board.yaml", "--send", r"\q"], 2, r"no escape '\q'"),
    ("bad timeout", ["run", "board.yaml", "--timeout", "soon"], 2, "'soon' is not a number"),
    ("negative timeout", ["run", "board.yaml", "--timeout", "-1"], 2, "'-1' is not a number"),
    ("timeout nan", ["run", "board.yaml", "--timeout", "nan"], 2, "'nan' is not a number"),
    ("bad console", ["run", "board.yaml", "--console", "tty"], 2, "'tty' is no console; say"),
    ("console without path", ["run", "board.yaml", "--console", "file:"], 2, "is no console"),
    ("bad port", ["run", "board.yaml", "--console", "tcp:localhost:99999"], 2, "up to 65535"),
    ("no port", ["run", "board.yaml", "--console", "tcp:localhost"], 2, "is not HOST:PORT"),
    ("set without value", ["check", "board.yaml", "--set", "cpu"], 2, "write --set PATH=VALUE"),
    ("set of nothing", ["check", "board.yaml", "--set", "=1"], 2, "a name is missing"),
    ("set below a value", ["check", "board.yaml", "--set", "machine.x=1"], 2, "not a mapping"),
    ("set not YAML", ["check", "board.yaml", "--set", "cpu={"], 2, "--set cpu"),
    # descriptions
    ("no file", ["run", "boadr.yaml"], 3, "boadr.yaml: no such file; did you mean 'board.yaml'?"),
    ("directory", ["check", "."], 3, "Is a directory"),
    ("not YAML", ["check", "broken.yaml"], 2, "broken.yaml:2:"),
    ("empty", ["check", "empty.yaml"], 2, "is empty; a description begins with machine: NAME"),
    ("binary", ["check", "guest.bin"], 2, "guest.bin"),
    ("no cpu", ["check", "board.yaml", "--set", "cpu="], 2, "cpu: is missing"),
    ("unknown key", ["check", "board.yaml", "--set", "cpu.hartz=2"], 2, "did you mean 'harts'?"),
    ("bad value", ["check", "board.yaml", "--set", "cpu.harts=x"], 2, "must be a whole number"),
    ("too many harts", ["check", "board.yaml", "--set", "cpu.harts=99"], 2, "at most 8"),
    ("bad arch", ["check", "board.yaml", "--set", "cpu.arch=riscv46"], 2, "'riscv64'"),
    ("odd RAM", ["check", "board.yaml", "--set", "memory.ram.size=1000"], 2, "memory.ram.size"),
    ("no RAM", ["check", "board.yaml", "--set", "memory.ram.size=0"], 2, "at least"),
    ("bad size", ["check", "board.yaml", "--set", "memory.ram.size=1Q"], 2, "'1Q' is not a size"),
    ("unknown type", ["check", "board.yaml", "--set", "devices.uart0.type=ns1655a"], 2, "ns16550a"),
    ("no type", ["check", "board.yaml", "--set", "devices.u1={at: 0x1000_2000}"], 2, "is missing"),
    ("bad end", ["check", "board.yaml", "--set", "devices.uart0.backend=tcp:1"], 2, "channel:NAME"),
    ("bad irq", ["check", "board.yaml", "--set", "devices.uart0.irq=10"], 2, "devices.uart0.irq"),
    ("no such irq", ["check", "board.yaml", "--set", "devices.uart0.irq=plik.1"], 2, "'plic'?"),
    ("overlap", ["check", "board.yaml", "--set", "devices.uart0.at=0x0c00_1000"], 2, "overlaps"),
    ("nothing to run", ["check", "board.yaml", "--set", "boot.firmware="], 2, "nothing to run"),
    ("own type, no file", ["check", "board.yaml", "--set", "devices.b.type=./b.py:B"], 2, "b.py"),
    ("own type, no class", ["devices", "./own.py:Missing"], 2, "has no class 'Missing'"),
    ("own type, not a device", ["devices", "./own.py:NotADevice"], 2, "is not a device"),
    ("own type, raises", ["devices", "./raises.py:X"], 2, "raises.py:1: ZeroDivisionError"),
    ("no such type", ["devices", "virtio.blkk"], 2, "did you mean 'virtio.blk'?"),
    # files that a description names
    ("no kernel", ["run", "board.yaml", "--set", "boot.firmware=gest.bin"], 3, "'guest.bin'?"),
    ("empty kernel", ["run", "board.yaml", "--set", "boot.firmware=empty.yaml"], 3, "is empty"),
    ("other ELF", ["run", "board.yaml", "--set", "boot.firmware=/bin/sh"], 3, "this machine is"),
    ("cut ELF", ["run", "board.yaml", "--set", "boot.firmware=cut.elf"], 3, "cut.elf"),
    ("directory", ["run", "board.yaml", "--set", "boot.firmware=."], 3, "is a directory"),
    ("RAM too small", ["run", "board.yaml", "--set", "boot.firmware=big.bin"], 3, "big.bin"),
    ("cut gzip", ["run", "board.yaml", "--set", "boot.kernel=cut.gz"], 3, "cut.gz"),
    ("bad tree", ["dtb", "board.yaml", "--set", "boot.dtb=cut.elf", "--format", "dts"], 3, "tree"),
    (
        "load outside RAM",
        ["run", "board.yaml", "--set", "boot.load=[{file: big.bin, at: 0x800f_f000}]"],
        3,
        "does not fit in RAM",
    ),
    ("bad image name", ["run", "board.yaml", "--set", "boot.kernel=image:x"], 2, "image:NAME/FILE"),
    (
        "no such image",
        ["check", "board.yaml", "--set", "boot.kernel=image:debain-riscv64/linux"],
        2,
        "did you mean 'debian-riscv64'",
    ),
    ("no such image file", ["image", "show", "debian-riscv64/linus"], 3, "has no file 'linus'"),
    ("no such image", ["image", "pull", "debain-riscv64"], 3, "did you mean 'debian-riscv64'"),
    ("no recipe", ["image", "build", "none.yaml"], 2, "none.yaml"),
    ("bad recipe", ["image", "build", "board.yaml"], 2, "board.yaml:1"),
    # disks
    ("no disk", ["run", "board.yaml", "--set", DISK.replace("FILE", "none")], 3, "no file 'none'"),
    ("empty disk", ["run", "board.yaml", "--set", DISK.replace("FILE", "empty.yaml")], 3, "empty"),
    ("bad qcow2", ["run", "board.yaml", "--set", DISK.replace("FILE", "bad.qcow2")], 3, "qcow2"),
    ("bad qcow2", ["disk", "info", "bad.qcow2"], 3, "bad.qcow2"),
    (
        "qcow2 written to",
        ["run", "board.yaml", "--set", DISK.replace("FILE", "ok.qcow2")],
        3,
        "ok.qcow2",
    ),
    ("no disk", ["disk", "info", "none"], 3, "none: no such file"),
    ("disk of size 0", ["disk", "create", "new.img", "0"], 3, "above zero"),
    ("disk of odd size", ["disk", "create", "new.img", "1000"], 3, "multiple of 512"),
    ("disk of no size", ["disk", "create", "new.img", "big"], 2, "'big' is not a size"),
    ("disk of a huge size", ["disk", "create", "new.img", "9999999T"], 3, "new.img"),
    ("disk there already", ["disk", "create", "guest.bin", "1M"], 3, "is there already"),
    ("disk nowhere", ["disk", "create", "no/new.img", "1M"], 3, "no/new.img"),
    ("commit of no overlay", ["disk", "commit", "guest.bin"], 3, "guest.bin"),
    # what is written and read besides
    ("stats nowhere", ["run", "board.yaml", "--stats", "no/s.json"], 3, "cannot be written"),
    ("stats on a directory", ["run", "board.yaml", "--stats", "."], 3, "Is a directory"),
    ("console nowhere", ["run", "board.yaml", "--console", "file:no/out"], 3, "cannot be written"),
    (
        "console host",
        ["run", "board.yaml", "--console", "tcp:203.0.113.1:5000"],
        3,
        "cannot listen",
    ),
    ("tree nowhere", ["dtb", "board.yaml", "-o", "no/tree.dtb"], 3, "cannot be written"),
    ("snapshot nowhere", ["run", "board.yaml", "--snapshot", "no/s"], 3, "cannot be written"),
    ("snapshot on a directory", ["run", "board.yaml", "--snapshot", "."], 3, "is a directory"),
    ("no snapshot", ["run", "board.yaml", "--restore", "none"], 3, "cannot be read"),
    ("not a snapshot", ["run", "board.yaml", "--restore", "guest.bin"], 3, "not a snapshot file"),
    ("empty snapshot", ["run", "board.yaml", "--restore", "empty.yaml"], 3, "not a snapshot file"),
    (
        "own device that fails",
        ["run", "board.yaml", "--set", "devices.o.type=./own.py:Fails"],
        3,
        "no such lamp",
    ),
]

OWN = """
from hypervisor.device import BackendError, Device
class NotADevice: pass
class Fails(Device):
    address_size = 0
    def __init__(self, name, options, board):
        raise BackendError(f"{name}: there is no such lamp")
"""


def qcow2(size):
    """A version 2 header and nothing else: its L1 table is beyond the end of the file."""
    return struct.pack(">IIQIIQIIQQIIQ", 0x514649FB, 2, 0, 0, 16, size, 0, 64, 1 << 40, 0, 0, 0, 0)


@pytest.fixture
def bad_files(folder):
    (folder / "broken.yaml").write_text("machine: x\ncpu: {arch: riscv64\nmemory: [\n")
    (folder / "empty.yaml").write_text("")
    (folder / "own.py").write_text(OWN)
    (folder / "raises.py").write_text("1 / 0\n")
    (folder / "cut.elf").write_bytes(b"\x7fELF\x02\x01\x01")
    (folder / "cut.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b")
    (folder / "big.bin").write_bytes(b"\x13\0\0\0" * (1 << 19))
    (folder / "bad.qcow2").write_bytes(qcow2(1 << 20))
    (folder / "ok.qcow2").write_bytes(qcow2(0))


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"), [pytest.param(*rest, id=name) for name, *rest in TABLE]
)
def test_bad_input_is_one_sentence(command, arguments, code, sentence):
    result = command(*arguments)

    assert sentence in result.err
    assert "Traceback" not in result.err
    assert result.code == code
    assert result.out == ""


@pytest.mark.usefixtures("bad_files")
def test_all_problems_of_a_description_are_reported_at_once(command, folder):
    text = (folder / "board.yaml").read_text()
    text = text.replace("riscv64}", "riscv46, harts: x}").replace("plic.10", "plik.10")
    (folder / "board.yaml").write_text(text.replace("guest.bin", "gest.bin"))

    result = command("check", "board.yaml")

    assert result.code == 2
    places = [line.split(": ")[0] for line in result.err.splitlines()]
    assert places == ["board.yaml:2:13", "board.yaml:2:29", "board.yaml:6:13", "board.yaml:10:49"]


@pytest.mark.parametrize("length", [0, 7, 15, 40, 200, -1])
def test_truncated_snapshot_is_refused(command, folder, length):
    command("run", "board.yaml", "--until", "ready", "--snapshot", "s")
    whole = (folder / "s").read_bytes()
    (folder / "s").write_bytes(whole[:length])

    result = command("run", "board.yaml", "--restore", "s", "--timeout", "20")

    assert result.code == 3
    assert result.err.count("\n") == 1
    assert "s" in result.err


def test_snapshot_of_another_machine_is_refused(command, folder):
    command("run", "board.yaml", "--until", "ready", "--snapshot", "s")

    result = command("run", "board.yaml", "--restore", "s", "--set", "memory.ram.size=2M")

    assert result.code == 3
    assert result.err == "the snapshot s is of a machine with another description\n"


def test_busy_port_is_refused(command, folder):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = command("run", "board.yaml", "--console", f"tcp:127.0.0.1:{port}")

    assert result.code == 3
    assert result.err.startswith(f"the console cannot listen on 127.0.0.1:{port}: ")


def test_unforeseen_error_is_shown_whole_and_ends_with_70(command, folder):
    (folder / "own.py").write_text(OWN.replace("raise BackendError", "raise RuntimeError"))

    result = command("run", "board.yaml", "--set", "devices.o.type=./own.py:Fails")

    assert result.code == 70
    assert "Traceback" in result.err
    assert "RuntimeError: o: there is no such lamp" in result.err
