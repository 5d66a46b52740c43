from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.config import DescriptionError, DeviceTypeError, Interrupt, load_text
from hypervisor.device import Device

Load = Callable[..., Any]
Problems = Callable[..., list[str]]
Edited = Callable[[str, str], str]


def no_devices(name: str, directory: str) -> type[Device]:
    raise DeviceTypeError(f"no device type '{name}'")


# -- what a description becomes ---------------------------------------------------------------


def test_description_holds_what_the_file_says(load: Load) -> None:
    found = load()
    assert found.machine == "riscv64-virt"
    assert found.cpu.harts == 1
    assert (found.memory.ram.at, found.memory.ram.size) == (0x8000_0000, 16 << 20)
    assert found.boot.entry == 0x8000_0000
    assert list(found.devices) == ["plic", "uart0", "disk0"]


def test_device_entry_holds_class_options_size_and_interrupt(
    load: Load, fakes: dict[str, type[Device]]
) -> None:
    entry = load().devices["uart0"]
    assert entry.model is fakes["fake.uart"]
    assert (entry.options.at, entry.options.speed, entry.size) == (0x1000_0000, 9600, 0x100)
    assert entry.interrupt == Interrupt("plic", 10)


def test_defaults_make_every_run_the_same(load: Load) -> None:
    found = load()
    assert found.epoch == 1_704_067_200 * 10**9
    assert found.seed == 1
    assert found.clock.pace == "auto"


@pytest.mark.parametrize(
    ("epoch", "seconds"),
    [
        ("2000-01-01T00:00:00Z", 946_684_800),
        ("2000-01-01T01:00:00+01:00", 946_684_800),
        ("2000-01-01", 946_684_800),
        ("2000-01-01 00:00:01", 946_684_801),
    ],
)
def test_epoch_is_a_time_of_day(load: Load, epoch: str, seconds: int) -> None:
    assert load(f"clock.epoch={epoch}").epoch == seconds * 10**9


def test_host_epoch_is_the_host_s_time(load: Load) -> None:
    before = time.time_ns()
    assert before <= load("clock.epoch=host").epoch <= time.time_ns()


@pytest.mark.parametrize(("said", "seed"), [("7", 7), ("host", None), ("off", 0)])
def test_seed_of_randomness(load: Load, said: str, seed: int | None) -> None:
    assert load(f"boot.rng_seed={said}").seed == seed


@pytest.mark.parametrize(
    ("override", "machine_mode"),
    [("boot.kernel=/dev/null", False), ("boot.firmware=/dev/null", True), ("strict=true", True)],
)
def test_machine_mode_is_the_guest_s_without_a_kernel_of_its_own(
    load: Load, override: str, machine_mode: bool
) -> None:
    assert load(override).machine_mode is machine_mode


def test_generated_device_tree_can_be_asked_for_by_name(load: Load) -> None:
    assert load("boot.dtb=auto").boot.dtb is None


def test_console_is_the_device_with_stdio(load: Load) -> None:
    assert load().console == "uart0"


def test_machine_without_stdio_has_no_console(load: Load) -> None:
    assert load("devices.uart0.backend=none").console is None


# -- source and digest ------------------------------------------------------------------------


def test_source_reads_back_as_the_same_description(load: Load, tmp_path: Path) -> None:
    (tmp_path / "disk é\u2028.img").touch()
    first = load(f'devices.disk0.file="{tmp_path}/disk é\\u2028.img"')
    from_source = load_text(
        first.source, "elsewhere.yaml", find=lambda name, _: _model(first, name)
    )
    assert from_source.devices == first.devices
    assert from_source.digest == first.digest


def _model(description: Any, name: str) -> type[Device]:
    found: type[Device] = next(e.model for e in description.devices.values() if e.type == name)
    return found


def test_digest_depends_on_values_but_not_on_notation(load: Load) -> None:
    first = load()
    assert load("strict=true").digest != first.digest
    assert load("memory.ram={size: '16M', at: 2147483648}").digest == first.digest


def test_digest_does_not_depend_on_where_the_files_are(load: Load, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    text = "machine: m\ncpu: {arch: riscv64}\nmemory: {ram: {at: 0, size: 1M}}\nboot: {kernel: k}"
    digests = []
    for directory in (tmp_path, other):
        (directory / "k").touch()
        found = load_text(text, str(directory / "m.yaml"))
        digests.append(found.digest)
        assert found.boot.kernel == str(directory / "k")
    assert digests[0] == digests[1]


# -- files ------------------------------------------------------------------------------------


def test_file_is_relative_to_the_description(load: Load, edited: Edited, tmp_path: Path) -> None:
    (tmp_path / "disk.img").touch()
    found = load(text=edited("devices:", "devices:\n  d: {type: fake.disk, at: 0, file: disk.img}"))
    assert found.devices["d"].options.file == str(tmp_path / "disk.img")
    assert found.resolve(found.devices["d"].options.file) == str(tmp_path / "disk.img")


def test_file_of_a_base_is_relative_to_the_base(load: Load, edited: Edited, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/disk.img").touch()
    (tmp_path / "sub/base.yaml").write_text("devices: {disk0: {file: disk.img}}")
    found = load(text=edited("machine:", "base: sub/base.yaml\nmachine:"))
    assert found.devices["disk0"].options.file == str(tmp_path / "sub/disk.img")


def test_file_of_an_override_is_relative_to_the_current_directory(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/kernel").touch()
    monkeypatch.chdir(tmp_path / "here")
    assert load("boot.kernel=kernel").boot.kernel == str(tmp_path / "here/kernel")


def test_image_reference_stays_as_it_is_written(load: Load) -> None:
    assert load("boot.kernel=image:debian/linux").boot.kernel == "image:debian/linux"


def test_wrong_image_reference_is_the_catalogue_s_to_judge(problems: Problems) -> None:
    found = problems("boot.kernel=image:debian/linux", check_image=lambda text: f"no {text}")
    assert found == ["--set boot.kernel: boot.kernel: no image:debian/linux"]


def test_image_reference_needs_a_file(problems: Problems) -> None:
    found = problems("boot.kernel=image:debian")
    said = "'image:debian' is not an image reference such as image:NAME/FILE"
    assert found == [f"--set boot.kernel: boot.kernel: {said}"]


def test_missing_file_names_the_nearest(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "disk0.img").touch()
    found = problems(f"devices.disk0.file={tmp_path}/dsk0.img")
    assert found[0].endswith("devices.disk0.file: no file 'dsk0.img'; did you mean 'disk0.img'?")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (".", "'.' is a directory, not a file"),
        ('"a\\0b"', "a file's name cannot hold a zero byte"),
        ("no/such", "no file 'no/such'; there is no directory 'no'"),
        ("''", "must be text of at least 1 characters, not ''"),
    ],
)
def test_file_that_cannot_be_read_is_reported(problems: Problems, file: str, message: str) -> None:
    assert problems(f"boot.kernel={file}") == [f"--set boot.kernel: boot.kernel: {message}"]


def test_unreadable_file_is_reported(problems: Problems, tmp_path: Path) -> None:
    # A loop of links, which not even root can read.
    (tmp_path / "kernel").symlink_to("kernel")
    assert "cannot read" in problems(f"boot.kernel={tmp_path}/kernel")[0]


# -- one mistake, one sentence ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("riscv64-virt", "12", "1:10: machine: must be text, not 12; write '12' in quotes"),
        (
            "riscv64-virt",
            "a b",
            "1:10: machine: must be a name of letters, digits and '-', such as riscv64-virt",
        ),
        ("machine: ", "# ", "2:1: machine: is missing (name of the machine, shown to the guest)"),
        ("cpu:", "cpus:", "2:1: cpus: no such key; did you mean 'cpu'?"),
        (
            "arch: riscv64",
            "arch: riscv32",
            "2:13: cpu.arch: must be 'riscv64' or 'aarch64', not 'riscv32'",
        ),
        (
            "{arch: riscv64}",
            "riscv64",
            "2:6: cpu: must be a mapping of keys to values, not 'riscv64'",
        ),
        ("16M", "16Q", "3:39: memory.ram.size: '16Q' is not a size such as 4096, 64K or 512M"),
        ("16M", "100G", "3:39: memory.ram.size: must be at most 0x1000000000, not '100G'"),
        (
            "16M",
            "4097",
            "3:39: memory.ram.size: must be a multiple of the page size 0x1000, not 0x1001",
        ),
        ("at: 0x8000_0000,", "at: -1,", "3:20: memory.ram.at: must be at least 0, not -1"),
        (
            "{entry: 0x8000_0000}",
            "{initrd: /dev/null}",
            "4:1: boot: nothing to run; give 'kernel' or 'firmware', or 'entry' with 'load'",
        ),
        (
            "{entry: 0x8000_0000}",
            "{entry: 0x8000_0000, initrd: /dev/null}",
            "4:36: boot.initrd: needs a kernel or firmware",
        ),
        (
            "{entry: 0x8000_0000}",
            "{entry: 0x1000}",
            "4:15: boot.entry: nothing is at 0x1000; memory.ram is 0x80000000 to 0x80ffffff",
        ),
        (
            "{entry: 0x8000_0000}",
            "{entry: 0x8000_0000, load: [{file: /dev/null, at: 4}]}",
            "4:57: boot.load.0.at: 0x4 is no memory; memory.ram is 0x80000000 to 0x80ffffff",
        ),
        (
            "{entry: 0x8000_0000}",
            "{entry: 0x8000_0000, rng_seed: yes}",
            "4:38: boot.rng_seed: must be a whole number or 'host' or 'off', not 'yes'",
        ),
        ("type: fake.plic, ", "", "6:3: devices.plic.type: is missing"),
        ("type: fake.plic", "type: 5", "6:16: devices.plic.type: must be a device type's name"),
        (
            "type: fake.disk",
            "type: fake.dsk",
            "8:17: devices.disk0.type: no device type 'fake.dsk'",
        ),
        ("backend", "backnd", "7:59: devices.uart0.backnd: no such key; did you mean 'backend'?"),
        (
            "at: 0x1000_1000, ",
            "",
            "8:3: devices.disk0.at: is missing (guest-physical base address)",
        ),
        (
            "0x1000_1000",
            "0x1000_1800",
            "8:32: devices.disk0.at: must be a multiple of the page size 0x1000, not 0x10001800",
        ),
        (
            "0x1000_1000",
            "0x1000_0000",
            "8:32: devices.disk0.at: 0x10000000 to 0x10000fff overlaps devices.uart0 at "
            "0x10000000 to 0x10000fff",
        ),
        (
            "0x1000_1000",
            "0x8000_1000",
            "8:32: devices.disk0.at: 0x80001000 to 0x80001fff overlaps memory.ram at "
            "0x80000000 to 0x80ffffff",
        ),
        (
            "irq: plic.1}",
            "irq: plic.1, size: 0x1001}\n  z: {type: fake.disk, at: 0x1000_2000}",
            "9:28: devices.z.at: 0x10002000 to 0x10002fff overlaps devices.disk0 at "
            "0x10001000 to 0x10002fff",
        ),
        (
            "plic.10",
            "plci.10",
            "7:50: devices.uart0.irq: no device named 'plci'; did you mean 'plic'?",
        ),
        (
            "plic.10",
            "plic",
            "7:50: devices.uart0.irq: 'plic' is not CONTROLLER.NUMBER such as plic.10",
        ),
        ("plic.10", "10", "7:50: devices.uart0.irq: must be text, not 10; write '10' in quotes"),
        ("plic.10", "plic.0", "7:50: devices.uart0.irq: 'plic' has inputs 1 to 31, not 0"),
        ("plic.10", "plic.32", "7:50: devices.uart0.irq: 'plic' has inputs 1 to 31, not 32"),
        (
            "plic.10",
            "disk0.1",
            "7:50: devices.uart0.irq: 'disk0' is no interrupt controller but a fake.disk",
        ),
        (
            "plic.1}",
            "plic.10}",
            "8:50: devices.disk0.irq: plic.10 is already the interrupt of 'uart0'",
        ),
        (
            "stdio}",
            "stdio}\n  uart1: {type: fake.uart, at: 0x1001_0000, backend: stdio}",
            "8:54: devices.uart1.backend: 'uart0' already is the console (backend stdio); "
            "write backend: none",
        ),
        (
            "devices:",
            "console: uart\ndevices:",
            "5:10: console: no device named 'uart'; did you mean 'uart0'?",
        ),
        (
            "devices:",
            "console: disk0\ndevices:",
            "5:10: console: 'disk0' cannot be the console: a fake.disk has no serial line",
        ),
        (
            "disk0:",
            "my disk:",
            "8:3: devices.my disk: a device's name begins with a letter and has at most 31 "
            "letters, digits, '_' and '-'",
        ),
        (
            "disk0: {type: fake.disk, at: 0x1000_1000",
            "gic: {type: fake.gic, at: 0x1000_1000",
            "8:15: devices.gic.type: a fake.gic is for aarch64; this machine is riscv64",
        ),
        (
            "irq: plic.1}",
            "read_only: off}",
            "8:56: devices.disk0.read_only: must be true or false, not 'off'; write false",
        ),
    ],
)
def test_mistake_is_one_sentence_at_its_place(
    problems: Problems, edited: Edited, old: str, new: str, message: str
) -> None:
    assert problems(text=edited(old, new))[-1] == f"machine.yaml:{message}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cpu.harts=9", "cpu.harts: must be at most 8, not 9"),
        ("cpu.harts=true", "cpu.harts: must be a whole number, not true"),
        ("cpu.harts='4'", "cpu.harts: must be a whole number, not '4'"),
        ("cpu.harts=1.5", "cpu.harts: must be a whole number, not 1.5"),
        ("clock.pace=fast", "clock.pace: must be 'auto', 'free' or 'realtime', not 'fast'"),
        ("clock.timebase=1", "clock.timebase: must be 10000000, not 1"),
        (
            "clock.epoch=yesterday",
            "clock.epoch: must be a time such as 2024-01-01T00:00:00Z, or host, not 'yesterday'",
        ),
        (
            "clock.epoch=1066-10-14",
            "clock.epoch: must be a time from 1970 to 2262, not '1066-10-14'",
        ),
        ("strict=yes", "strict: must be true or false, not 'yes'; write true"),
        ("boot.load={}", "boot.load: must be a list, not a mapping"),
        ("boot.load=[{at: 1}]", "boot.load.0.file: is missing (its bytes are loaded as they are)"),
        ("devices.uart0.speed=0", "devices.uart0.speed: must be at least 1, not 0"),
        ("devices.uart0.speed=999999", "devices.uart0.speed: must be at most 115200, not 999999"),
        ("devices=[a]", "devices: must be a mapping of keys to values, not a list"),
        (
            "devices.uart0=fake.uart",
            "devices.uart0: must be a mapping of keys to values, not 'fake.uart'",
        ),
    ],
)
def test_wrong_override_is_reported_as_the_option(
    problems: Problems, override: str, message: str
) -> None:
    assert problems(override)[-1] == f"--set {override.partition('=')[0]}: {message}"


def test_override_of_an_unknown_device_names_the_nearest(problems: Problems) -> None:
    found = problems("devices.uart.backend=none")
    assert found == [
        "--set devices.uart.backend: devices.uart.type: is missing; did you mean 'uart0'?"
    ]


def test_everything_wrong_is_reported_at_once_in_order(problems: Problems) -> None:
    text = (
        "machine: 1\n"
        "cpu: {arch: riscv64, hart: 2}\n"
        "memory: {ram: {at: 0x8000_0000, size: 16M}}\n"
        "boot: {kernel: nix, rng_seed: maybe}\n"
        "devices:\n"
        "  plic: {type: fake.plik, at: 0x0c00_0000}\n"
        "  uart0: {type: fake.uart, at: 0x8000_0000, irq: plc.1, speed: 1}\n"
        "  disk0: {type: fake.disk, at: 0, irq: plc.1, file: nix, read_only: 1}\n"
        "consol: uart0\n"
    )
    places = [each.split(": ")[:2] for each in problems("strict=2", text=text)]
    assert places == [
        ["machine.yaml:1:10", "machine"],
        ["machine.yaml:2:22", "cpu.hart"],
        ["machine.yaml:4:16", "boot.kernel"],
        ["machine.yaml:4:31", "boot.rng_seed"],
        ["machine.yaml:6:16", "devices.plic.type"],
        ["machine.yaml:7:32", "devices.uart0.at"],
        ["machine.yaml:7:50", "devices.uart0.irq"],
        ["machine.yaml:8:40", "devices.disk0.irq"],
        ["machine.yaml:8:53", "devices.disk0.file"],
        ["machine.yaml:8:69", "devices.disk0.read_only"],
        ["machine.yaml:9:1", "consol"],
        ["--set strict", "strict"],
    ]


def test_inputs_begin_where_the_controller_says(
    problems: Problems, fakes: dict[str, type[Device]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes["fake.plic"], "first_input", 10)

    said = problems()

    assert said == ["machine.yaml:8:50: devices.disk0.irq: 'plic' has inputs 10 to 31, not 1"]


def test_device_without_address_space_needs_no_address(load: Load) -> None:
    assert load("devices.hub={type: fake.hub}").devices["hub"].options.at is None


def test_interrupt_of_a_broken_controller_is_not_judged(problems: Problems) -> None:
    found = problems("devices.plic.at=x")
    assert found == ["--set devices.plic.at: devices.plic.at: must be a whole number, not 'x'"]


# -- hostile input ----------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("machine", "cpu", "arch", "riscv64", "memory", "ram", "at", "size", "boot", "kernel"),
        *("load", "devices", "type", "irq", "file", "console", "clock", "epoch", "base", "16M"),
        *("plic.1", "entry", "strict", ""),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(WORDS.filter(lambda word: word not in ("", "base")), VALUES))
def test_any_document_is_a_description_or_an_error(data: dict[str, Any]) -> None:
    text = json.dumps(data, ensure_ascii=False)
    with pytest.raises(DescriptionError) as caught:
        load_text(text, "fuzz.yaml", find=no_devices)
    assert all("nput should" not in each.sentence for each in caught.value.problems)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error_without_a_traceback(data: bytes) -> None:
    with pytest.raises(DescriptionError):
        load_text(data, "fuzz.yaml", find=no_devices)
