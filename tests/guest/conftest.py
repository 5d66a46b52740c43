"""Guests for tests: Debian with test programs in its initramfs, booted once and then restored."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hypervisor import Machine
from hypervisor.images import cpio

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
PROMPT = "\n# "

Step = Sequence[Any]


@dataclass(frozen=True)
class Platform:
    """What the guests of one architecture are made of."""

    config: str
    """The description that boots Debian to a shell."""
    recipe: str
    """Its initial RAM disk's, in `images/`: the shipped one's and what our programs need."""
    target: str
    """Zig's name for programs of the guest."""


PLATFORMS = {
    "riscv64": Platform(
        str(ROOT / "configs" / "riscv64-debian.yaml"),
        "programs.yaml",
        "riscv64-linux-musl",
    ),
    "aarch64": Platform(
        str(ROOT / "configs" / "aarch64-debian.yaml"),
        "programs-arm64.yaml",
        "aarch64-linux-musl",
    ),
}

BOOT: tuple[Step, ...] = (
    ("until", 500_000_000),
    ("mark", "early"),
    ("until", 1_900_000_000),
    ("mark", "middle"),
    ("expect", PROMPT),
    ("mark", "shell"),
)
TYPED: tuple[Step, ...] = (
    ("send", "cat /proc/interrupts; nproc; echo typed | tr a-z A-Z\n"),
    ("expect", PROMPT),
    ("mark", "typed"),
    ("send", "poweroff -f\n"),
    ("finish",),
    ("mark", "end"),
)


class Run:
    """A scenario in a process of its own, and what came of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._result: dict[str, Any] | None = None

    def wait(self) -> dict[str, Any]:
        """What the scenario printed; its failure is an error."""
        if self._result is None:
            output, errors = self._process.communicate(timeout=500)
            if self._process.returncode != 0:
                raise RuntimeError(f"the scenario failed:\n{errors[-6000:]}")
            self._result = json.loads(output)
        return self._result

    @property
    def marks(self) -> dict[str, Any]:
        """The machine's digests by the moment's name."""
        marks: dict[str, Any] = self.wait()["marks"]
        return marks

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@dataclass
class Guest:
    """How to make one kind of machine."""

    harts: int
    config: str
    initrd: Path
    _runs: list[Run]

    @property
    def overrides(self) -> list[str]:
        return [f"cpu.harts={self.harts}", f"boot.initrd={self.initrd}"]

    def load(self) -> Machine:
        return Machine.load(self.config, self.overrides)

    def run(self, *steps: Step) -> Run:
        """Start a scenario beside this process."""
        spec = {"machine": self.config, "overrides": self.overrides, "steps": steps}
        script = str(Path(__file__).with_name("scenario.py"))
        process = subprocess.Popen(
            [sys.executable, script, json.dumps(spec)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        run = Run(process)
        self._runs.append(run)
        return run


@dataclass
class Reference:
    """One uninterrupted boot, and another that was snapshotted on a busy host meanwhile."""

    guest: Guest
    plain: Run
    disturbed: Run
    snapshots: dict[str, Path]

    def rest(self, moment: str) -> list[Step]:
        """The steps that were still to come at a moment of the boot."""
        steps: list[Step] = [*BOOT, *TYPED]
        return steps[steps.index(("mark", moment)) + 1 :]


@pytest.fixture(scope="session")
def initrd_of(
    build: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """`initrd_of(arch)`: busybox, and the programs in /usr/test (Linux takes archives in a row)."""

    @cache
    def make(arch: str) -> Path:
        platform = PLATFORMS[arch]
        archive = build(platform.recipe).read_bytes()
        members = [cpio.Member(name, stat.S_IFDIR | 0o755) for name in ("usr", "usr/test")]
        folder = tmp_path_factory.mktemp(f"programs-{arch}")
        for file in _compile(platform, arch, folder):
            members.append(
                cpio.Member(f"usr/test/{file.name}", stat.S_IFREG | 0o755, file.read_bytes())
            )
        path = folder / "initrd"
        path.write_bytes(archive + cpio.write(members))
        return path

    return make


def _compile(platform: Platform, arch: str, folder: Path) -> list[Path]:
    """The guest programs. `arch.h` and some more are the architecture's own. Statically linked they
    would have zig compile all of musl for each architecture, for half a minute."""
    sources = [*PROGRAMS.glob("*.c"), *(PROGRAMS / arch).glob("*.c")]
    for source in sources:
        subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "cc", "-target", platform.target),
                *("-dynamic", "-O2", "-s", "-Wall", "-Wextra", "-Wno-sign-compare"),
                *("-Werror", f"-I{PROGRAMS / arch}"),
                *("-o", str(folder / source.stem), str(source)),
            ],
            check=True,
        )
    return sorted(folder / source.stem for source in sources)


@pytest.fixture(scope="session")
def guest_of(initrd_of: Callable[[str], Path]) -> Iterator[Callable[..., Guest]]:
    """`guest_of(harts, arch)`."""
    runs: list[Run] = []

    def make(harts: int, arch: str = "riscv64") -> Guest:
        return Guest(harts, PLATFORMS[arch].config, initrd_of(arch), runs)

    yield make
    for run in runs:
        run.stop()


@pytest.fixture(scope="session")
def reference_of(
    guest_of: Callable[..., Guest], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Reference]:
    """`reference_of(harts, arch)`: booted at its first use, then kept."""

    @cache
    def make(harts: int, arch: str) -> Reference:
        return _reference(guest_of(harts, arch), tmp_path_factory.mktemp(f"{arch}-{harts}"))

    return lambda harts, arch="riscv64": make(harts, arch)


def _reference(guest: Guest, folder: Path) -> Reference:
    names = [name for step, *rest in BOOT if step == "mark" for name in rest]
    snapshots = {name: folder / name for name in names}
    steps: list[Step] = []
    for step in BOOT:
        steps.append(step)
        if step[0] == "mark":
            steps.append(("snapshot", str(snapshots[step[1]])))
    # The plain run stops nowhere but where it must, to type.
    plain = [("expect", PROMPT), ("mark", "shell"), *TYPED]
    reference = Reference(guest, guest.run(*plain), guest.run(*steps, *TYPED), snapshots)
    with busy_host():
        reference.disturbed.wait()
    reference.plain.wait()
    return reference


@contextmanager
def busy_host() -> Iterator[None]:
    """Meanwhile another process takes the host from what runs, again and again for a moment."""
    program = (
        "import time\n"
        "while True:\n"
        "    end = time.monotonic() + 0.1\n"
        "    while time.monotonic() < end: pass\n"
        "    time.sleep(0.3)\n"
    )
    burner = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


@pytest.fixture
def restored(
    reference_of: Callable[..., Reference], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Machine]]:
    """`restored(harts, arch)`: a machine of this test's own, at the shell's prompt."""
    machines: list[Machine] = []

    def make(harts: int, arch: str = "riscv64") -> Machine:
        reference = reference_of(harts, arch)
        machine = reference.guest.load()
        machines.append(machine)
        machine.restore(reference.snapshots["shell"])
        return machine

    yield make
    for number, machine in enumerate(machines):
        text = machine.console.text[-4000:]
        request.node.add_report_section("call", f"console of machine {number}", text)
        machine.close()


@pytest.fixture
def ask() -> Callable[..., str]:
    """`ask(machine, command)`: what the shell answers, without the echoed command."""

    def run(machine: Machine, command: str, timeout: float = 300) -> str:
        machine.console.send(command + "\n")
        answer = machine.console.expect(PROMPT, timeout=timeout).replace("\r", "")
        answer = answer.replace("\x1b[6n", "")  # some shells ask where the cursor is
        for character in command:  # the shell breaks a long line into several
            answer = answer[answer.index(character) + 1 :]
        return answer.removeprefix("\n").removesuffix(PROMPT).removesuffix(PROMPT[1:])

    return run


@pytest.fixture(scope="session")
def build() -> Callable[[str], Path]:
    """`build(recipe)`: what `hypervisor image build` makes of a recipe in `images/`."""

    def run(recipe: str) -> Path:
        file = Path(__file__).parent / "images" / recipe
        result = subprocess.run(
            [sys.executable, "-m", "tools.main", "image", "build", str(file)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=500,
            check=True,
        )
        return Path(result.stdout.strip())

    return run


@pytest.fixture
def hypervisor_run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`hypervisor run ARGUMENTS` as a command, its input empty."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tools.main", "run", *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=500,
            check=False,
        )

    return run
