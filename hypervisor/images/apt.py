"""apt with a private state directory: one suite of one archive for one architecture.

apt(8) resolves, downloads and verifies (signature of the index, hash of every package). The host's
apt configuration applies (proxies, certificates), but its sources, state, cache and hooks do not:
see apt.conf(5). Works as root and as anyone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.images.errors import ImageError, NoPackageSource
from hypervisor.images.progress import Progress, silent
from hypervisor.images.sources import Source

_HELPER = Path("/usr/lib/apt/apt-helper")
_TIMEOUT = 30
_NAMES_PER_CALL = 500


class SuiteFailure(ImageError):
    """This suite cannot deliver; another may."""


class SuiteUnreachable(SuiteFailure):
    """Its archive could not be reached, or what it sent could not be trusted."""


@dataclass(frozen=True)
class Package:
    """One version of a package as a verified index describes it; `sha256` is of the `.deb`."""

    name: str
    version: str
    architecture: str
    suite: str
    sha256: str
    size: int


class Apt:
    """A private apt. `directory` is created and owned by this class."""

    def __init__(
        self,
        directory: Path,
        source: Source,
        suite: str,
        architecture: str,
        progress: Progress = silent,
    ) -> None:
        if not shutil.which("apt-get"):
            raise NoPackageSource("this host has no apt-get to fetch Debian packages with")
        self.suite = suite
        self._directory = directory.absolute()
        self._progress = progress
        for part in ("lists/partial", "archives/partial", "empty"):
            (self._directory / part).mkdir(parents=True, exist_ok=True)
        self._write("status", "")
        self._write("archive.sources", source.stanza(suite, architecture))
        self._write("apt.conf", _configuration(self._directory, architecture))

    def update(self) -> None:
        """Fetch the suite's index. Raises SuiteUnreachable."""
        errors = self._acquire(["apt-get", "update"], f"index of {self.suite}")
        if errors is not None or not self.updated:
            reason = "its index is empty" if errors is None else _reason(errors)
            raise SuiteUnreachable(f"suite {self.suite}: {reason}")

    @property
    def updated(self) -> bool:
        """Whether an index has ever been fetched."""
        return any("_Packages" in file.name for file in (self._directory / "lists").iterdir())

    def names(self) -> list[str]:
        """Every package name of the suite."""
        return sorted(self._query(["apt-cache", "pkgnames"]).split())

    def depends(self, name: str) -> list[str]:
        """`name` and everything it may depend on, all alternatives included."""
        without = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
        flags = [f"--no-{kind}" for kind in without]
        output = self._query(["apt-cache", "depends", "--recurse", *flags, name])
        return [line for line in output.splitlines() if line and line[0] not in " <|"]

    def closure(self, names: Sequence[str]) -> list[str]:
        """`names` and the packages apt would install with them on an empty system, sorted."""
        simulate = ["apt-get", "install", "--simulate", "--no-install-recommends"]
        output = self._query([*simulate, "-o", "APT::Get::Show-Versions=0", *names])
        return sorted(re.findall(r"^Inst (\S+)", output, flags=re.MULTILINE))

    def describe(self, names: Iterable[str]) -> list[Package]:
        """The suite's newest version of each package, in the order of `names`."""
        wanted = list(names)
        found: dict[str, Package] = {}
        for start in range(0, len(wanted), _NAMES_PER_CALL):
            chunk = wanted[start : start + _NAMES_PER_CALL]
            output = self._query(["apt-cache", "show", "--no-all-versions", *chunk])
            for paragraph in output.split("\n\n"):
                fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
                if "Package" in fields and "SHA256" in fields:
                    found[fields["Package"]] = Package(
                        fields["Package"],
                        fields["Version"],
                        fields["Architecture"],
                        self.suite,
                        fields["SHA256"],
                        int(fields["Size"]),
                    )
        return [found[name] for name in wanted if name in found]

    def download(self, package: Package, target: Path) -> None:
        """Fetch one package into `target`, going on with what a broken download left there.

        apt checks the hash the signed index gave. Raises SuiteFailure.
        """
        exact = f"{package.name}={package.version}"
        uris = self._query(["apt-get", "download", "--print-uris", exact])
        match = re.search(r"^'([^']+)' (\S+) \d+ ?(\S*)$", uris, re.MULTILINE)
        if not match:
            raise SuiteFailure(f"suite {self.suite} no longer holds {exact}")
        uri, name, digest = match.groups()
        task = f"{package.name} {package.version}"
        resumable = uri.startswith(("http://", "https://")) and digest and _HELPER.exists()
        if resumable:
            call = [str(_HELPER), "download-file", uri, str(target), digest]
            errors = self._acquire(call, task)
        else:
            errors = self._acquire(["apt-get", "download", exact], task, cwd=target.parent)
            if errors is None:
                os.replace(target.parent / name, target)
        if errors is not None:
            raise SuiteUnreachable(f"suite {self.suite}: {package.name}: {_reason(errors)}")

    def _write(self, name: str, text: str) -> None:
        """Leave a file alone that says it already: apt reads all indices anew when one is younger
        than what it made of them, for seconds."""
        file = self._directory / name
        if not file.exists() or file.read_text() != text:
            file.write_text(text)

    def _query(self, command: Sequence[str]) -> str:
        result = subprocess.run(
            self._with_options(command),
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
        )
        if result.returncode:
            raise SuiteFailure(f"suite {self.suite}: {_reason(result.stderr + result.stdout)}")
        return result.stdout

    def _acquire(self, command: Sequence[str], task: str, cwd: Path | None = None) -> str | None:
        """Run a command that downloads, reporting progress. Returns its messages if it failed."""
        reader, writer = os.pipe()
        options = ["-o", f"APT::Status-Fd={writer}"]
        with subprocess.Popen(
            [*self._with_options(command), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[writer],
            cwd=cwd,
            env=_environment(),
        ) as process:
            os.close(writer)
            try:
                self._progress(task, 0.0)
                with open(reader, encoding="utf-8", errors="replace") as status:
                    for line in status:
                        if match := re.match(r"dlstatus:\d+:([0-9.]+):", line):
                            self._progress(task, min(float(match[1]) / 100, 1.0))
                assert process.stderr
                errors = process.stderr.read()
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            return errors
        self._progress(task, 1.0)
        return None

    def _with_options(self, command: Sequence[str]) -> list[str]:
        return [command[0], "-c", str(self._directory / "apt.conf"), "-q", *command[1:]]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _configuration(directory: Path, architecture: str) -> str:
    settings = {
        "Dir::State": directory,
        "Dir::State::lists": directory / "lists",
        "Dir::State::status": directory / "status",
        "Dir::State::extended_states": directory / "extended_states",
        "Dir::Cache": directory,
        "Dir::Cache::archives": directory / "archives",
        "Dir::Cache::pkgcache": directory / "pkgcache.bin",
        "Dir::Cache::srcpkgcache": directory / "srcpkgcache.bin",
        "Dir::Etc::sourcelist": directory / "archive.sources",
        "Dir::Etc::sourceparts": directory / "empty",
        "Dir::Etc::preferences": directory / "preferences",
        "Dir::Etc::preferencesparts": directory / "empty",
        "APT::Architecture": architecture,
        "APT::Sandbox::User": "root",  # our directories are private: _apt could not write there
        "APT::Update::Error-Mode": "any",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": _TIMEOUT,
        "Acquire::https::Timeout": _TIMEOUT,
    }
    # The host's hooks would act on the host's own apt cache, and its architectures are not ours.
    cleared = [
        "APT::Architectures",
        "APT::Update::Pre-Invoke",
        "APT::Update::Post-Invoke",
        "APT::Update::Post-Invoke-Success",
        "APT::Default-Release",
        "APT::NeverAutoRemove",
    ]
    lines = [f"#clear {name};" for name in cleared]
    lines += [f'{name} "{value}";' for name, value in settings.items()]
    lines.append(f'APT::Architectures {{ "{architecture}"; }};')
    return "\n".join(lines) + "\n"


def _reason(messages: str) -> str:
    """What apt's messages come down to, in words that say what to do."""
    known = [
        (r"Hash Sum mismatch|File has unexpected size|Mirror sync", _OUT_OF_STEP),
        (
            r"NO_PUBKEY|EXPKEYSIG|[Mm]issing key|be verified|verification failed|is not signed",
            _UNTRUSTED,
        ),
        (r"does not have a Release file|404 +Not Found", "the archive does not hold it (404)"),
        (r"resolv|[Cc]ould not connect|[Cc]onnection|[Tt]imed? ?out|unreachable", _UNREACHABLE),
    ]
    for pattern, sentence in known:
        if re.search(pattern, messages):
            return sentence
    lines = [line for line in messages.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    lines = lines or messages.split("\n")
    return lines[0].strip() or "apt gave no reason"


_OUT_OF_STEP = "its index and its files are out of step on this mirror (hash or size differs)"
_UNTRUSTED = (
    "its signature cannot be verified with this host's keys (a newer debian-archive-keyring "
    "package may hold them)"
)
_UNREACHABLE = "the archive cannot be reached"
