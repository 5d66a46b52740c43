"""check, schema, devices, dtb, disk and image; and what `--help` may cost."""

import json
import os
import subprocess
import sys

import pytest

from devices.disk import open_disk
from hypervisor import Machine
from hypervisor.boot.fdt import parse
from hypervisor.boot.start import device_tree
from hypervisor.config import device_types
from hypervisor.device import BackendError

OWN = '''
from hypervisor.device import Device, Field, Node, Register
class Lamp(Device):
    """A lamp on a wire."""
    compatible = ("acme,lamp",)
    LEVEL = Register(0x4, reset=3, w1c=0x80, fields={"ON": 0, "LEVEL": (6, 1)}, doc="brightness")
    def __init__(self, name, options, board):
        super().__init__(name, options, board)
        self.colour = "red"
    def node(self):
        return Node("lamp@20000000", {"colour": self.colour}, [])
'''
HEAVY = (
    "pydantic",
    "yaml",
    "unicorn",
    "llvmlite",
    "numpy",
    "capstone",
    "rich",
    "cbor2",
    "elftools",
)


@pytest.fixture
def own(folder):
    (folder / "own.py").write_text(OWN)
    return "./own.py:Lamp"


def test_help_imports_nothing_of_the_machine():
    code = (
        "import sys, tools.main; tools.main.run(['--help']);"
        "print(len(sys.modules), *(m for m in sys.modules if m.partition('.')[0] in sys.argv[1:]))"
    )

    out = subprocess.check_output([sys.executable, "-c", code, *HEAVY, "devices"], text=True)

    count, *imported = out.splitlines()[-1].split()
    assert imported == []
    assert int(count) < 250


def test_help_names_every_command(command):
    result = command("--help")

    assert result.code == 0
    names = ["check", "device", "devices", "disk", "dtb", "gpu", "image", "inspect", "profile"]
    names += ["replay", "run", "schema", "screenshot", "symbols", "trace"]
    assert [line.split()[0] for line in result.out.splitlines()[-len(names) :]] == names


def test_check_of_a_right_description_is_one_line(folder, command):
    result = command("check", "board.yaml", "--set", "cpu.harts=2")

    assert result.code == 0
    assert result.out == "board.yaml: OK: test-board with 2 harts, 1 MiB of RAM and 3 devices\n"


@pytest.mark.parametrize("name", ["riscv64-debian", "riscv64-hello", "riscv64-firmware"])
def test_shipped_descriptions_are_right(command, name):
    assert command("check", f"configs/{name}.yaml").code == 0


def test_schema_is_json_schema_with_every_device(command):
    schema = json.loads(command("schema").out)

    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {f"device.{name}" for name in device_types()} <= schema["$defs"].keys()


def test_devices_lists_every_type_with_its_summary(command):
    lines = command("devices").out.splitlines()

    assert [line.split()[0] for line in lines[1:]] == device_types()
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.parametrize("name", device_types())
def test_devices_shows_options_and_registers(command, name):
    result = command("devices", name)

    assert result.code == 0
    assert "OPTION" in result.out


def test_devices_shows_a_device_of_ones_own(command, own):
    lines = command("devices", own).out.splitlines()

    assert lines[0] == "./own.py:Lamp: A lamp on a wire."
    assert lines[1] == "device tree: acme,lamp"
    assert lines[-1].split() == [
        *("0x0004", "LEVEL", "4", "rw", "w1c", "0x3", "brightness;", "ON[0],", "LEVEL[6:1]")
    ]


# -- dtb -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harts", [1, 4])
def test_dtb_is_the_tree_that_the_machine_gives_its_guest(folder, command, own, harts):
    disk = folder / "disk.img"
    disk.write_bytes(bytes(4096))
    overrides = [
        f"cpu.harts={harts}",
        "devices.disk0={type: virtio.blk, at: 0x1000_1000, irq: plic.1, file: disk.img}",
        "devices.net0={type: virtio.net, at: 0x1000_2000, irq: plic.2}",
        "devices.clint={type: riscv.clint, at: 0x0200_0000}",
        f"devices.lamp={{type: '{own}', at: 0x2000_0000}}",
    ]
    options = [part for override in overrides for part in ("--set", override)]

    result = command("dtb", "board.yaml", *options, "-o", "tree.dtb")

    assert (result.code, result.out, result.err) == (0, "", "")
    with Machine.load("board.yaml", overrides) as machine:
        assert (folder / "tree.dtb").read_bytes() == device_tree(machine)


def test_dtb_opens_no_disk(folder, command):
    (folder / "disk.img").write_bytes(bytes(4096))
    held = open_disk(folder / "disk.img", overlay="none", read_only=False)
    disk = "devices.disk0={type: virtio.blk, at: 0x1000_1000, irq: plic.1, file: disk.img}"

    result = command("dtb", "board.yaml", "--set", disk, "-o", "tree.dts")
    held.close()

    assert result.code == 0
    assert (folder / "tree.dts").read_text().startswith("/dts-v1/;")


def test_dtb_shows_the_file_that_a_description_names(folder, command):
    command("dtb", "board.yaml", "-o", "tree.dtb")

    again = command("dtb", "board.yaml", "--set", "boot.dtb=tree.dtb", "-o", "again.dtb")

    assert again.code == 0
    assert (folder / "again.dtb").read_bytes() == (folder / "tree.dtb").read_bytes()
    assert parse((folder / "again.dtb").read_bytes()).properties["model"] == b"test-board\0"


# -- disk ------------------------------------------------------------------------------------------


def test_disk_is_created_sparse_and_described(folder, command):
    created = command("disk", "create", "new.img", "64M")
    info = command("disk", "info", "new.img")

    assert (created.code, info.code) == (0, 0)
    assert info.out.splitlines() == [
        *("path: new.img", "format: raw", "size: 67108864 bytes (64 MiB)", "allocated: 0 bytes")
    ]
    assert (folder / "new.img").stat().st_blocks == 0


def test_overlay_is_committed_into_its_base(folder, command):
    command("disk", "create", "base.img", "1M")
    disk = open_disk("base.img", overlay="keep", read_only=False)
    disk.write(4096, b"x" * 512)
    disk.flush()
    disk.close()
    before = (folder / "base.img").read_bytes()

    flattened = command("disk", "commit", "base.img.overlay", "--into", "flat.img")
    result = command("disk", "commit", "base.img.overlay")

    assert (flattened.code, flattened.out) == (0, "flat.img\n")
    assert (result.code, result.out) == (0, "base.img\n")
    assert before == bytes(1 << 20)
    assert (folder / "base.img").read_bytes()[4096:4608] == b"x" * 512
    assert (folder / "base.img").read_bytes() == (folder / "flat.img").read_bytes()
    assert not (folder / "base.img.overlay").exists()


# -- image -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cache_home")
def test_image_list_names_every_file_and_whether_it_is_cached(command):
    lines = command("image", "list").out.splitlines()

    assert "  image:debian-riscv64/linux  not fetched" in lines
    assert any(line.startswith("debian-riscv64  Debian 13's kernel") for line in lines)


@pytest.mark.usefixtures("cache_home")
def test_image_show_of_what_is_not_cached_says_how_to_get_it(command):
    result = command("image", "show", "debian-riscv64/linux")

    assert (result.code, result.out) == (3, "")
    assert "`hypervisor image pull debian-riscv64/linux`" in result.err


def test_image_build_prints_the_path_that_it_built(folder, command, cache_home):
    (folder / "recipe.yaml").write_text(
        "format: initramfs\narchitecture: riscv64\nfiles:\n  /hello: {text: hi}\n"
    )

    result = command("image", "build", "recipe.yaml")

    assert result.code == 0, result.err
    path = result.out.strip()
    assert path.startswith(str(cache_home))
    assert os.path.getsize(path) > 0


# -- building machines -----------------------------------------------------------------------------


def open_files():
    return sorted(os.listdir("/proc/self/fd"))


def test_machine_that_fails_to_build_holds_nothing(folder):
    (folder / "disk.img").write_bytes(bytes(4096))
    (folder / "odd.img").write_bytes(b"")
    disks = [
        f"devices.disk{n}={{type: virtio.blk, at: {0x1000_1000 + n * 0x1000}, file: {file}}}"
        for n, file in enumerate(("disk.img", "odd.img"))
    ]
    with Machine.load("board.yaml"):
        """What the first machine leaves loaded is no leak."""
    before = open_files()

    with pytest.raises(BackendError):
        Machine.load("board.yaml", disks)

    assert open_files() == before
    open_disk("disk.img", overlay="none", read_only=False).close()


def test_machine_may_be_closed_twice(folder):
    machine = Machine.load("board.yaml")

    machine.close()
    machine.close()

    assert os.path.exists("board.yaml")


def test_program_that_was_built_again_is_loaded_again(folder):
    with Machine.load("board.yaml") as machine:
        first = machine.memory.read(0x8000_0000, 16)
    (folder / "guest.bin").write_bytes(bytes(64))

    with Machine.load("board.yaml") as machine:
        again = machine.memory.read(0x8000_0000, 16)

    assert first != bytes(16)
    assert again == bytes(16)
