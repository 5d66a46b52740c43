"""A signed Debian archive of the tests' own, served over HTTP, and kernel modules to pack."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from hypervisor.images import Catalogue, Images

MODIFIED = "Sat, 01 Jan 2022 00:00:00 GMT"


class DebianArchive:
    """Packages in suites, with signed indices; `requests` logs (path, Range header, status)."""

    def __init__(self, root: Path, key_home: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.key_home = key_home
        self.keyring = key_home / "keyring.gpg"
        self.requests: list[tuple[str, str | None, int]] = []
        self.packages: dict[str, list[str]] = {}

    def add(
        self,
        suite: str,
        name: str,
        files: Mapping[str, bytes],
        version: str = "1.0",
        depends: str = "",
    ) -> Path:
        """Build a package into the pool; `publish` makes it known."""
        tree = self.root / "build" / f"{name}_{version}"
        for path, content in files.items():
            place = tree / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: riscv64\n"
        control += "Maintainer: Nobody <nobody@example.org>\nDescription: test\n"
        control += f"Depends: {depends}\n" if depends else ""
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(control)
        deb = self.root / "pool" / f"{name}_{version}_riscv64.deb"
        deb.parent.mkdir(exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(deb)],
            check=True,
            capture_output=True,
        )
        content = deb.read_bytes()
        control += f"Filename: pool/{deb.name}\nSize: {len(content)}\n"
        control += f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        self.packages.setdefault(suite, []).append(control)
        return deb

    def publish(self, suite: str, sign: bool = True) -> None:
        """Write and sign the suite's index."""
        folder = self.root / "dists" / suite
        index = folder / "main" / "binary-riscv64" / "Packages"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text("\n".join(self.packages.get(suite, [])))
        content = index.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        release = f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nComponents: main\n"
        release += "Architectures: riscv64\nDate: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n"
        release += f" {digest} {len(content)} main/binary-riscv64/Packages\n"
        (folder / "Release").write_text(release)
        (folder / "InRelease").unlink(missing_ok=True)
        (self.signed_release(folder) if sign else None)

    def signed_release(self, folder: Path) -> None:
        gpg(self.key_home, "--clearsign", "-o", folder / "InRelease", folder / "Release")

    def source_file(self, folder: Path) -> Path:
        """An apt source that names this archive as a host's main one."""
        file = folder / "debian.sources"
        file.write_text(
            f"Types: deb\nURIs: {self.url}/debian\nSuites: trixie\nComponents: main\n"
            f"Signed-By: {self.keyring}\n"
        )
        return file


def gpg(home: Path, *arguments: object) -> None:
    """Run gpg with a home of its own."""
    subprocess.run(
        ["gpg", "--homedir", str(home), "--batch", "--yes", "-q", *map(str, arguments)],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="session")
def key_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A gpg home with one key, and its public half in `keyring.gpg`."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg(home, "--passphrase", "", "--quick-gen-key", "tests@example.org", "ed25519", "sign")
    gpg(home, "-o", home / "keyring.gpg", "--export")
    (home / "keyring.gpg").chmod(0o644)
    yield home
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@pytest.fixture
def archive(tmp_path: Path, key_home: Path) -> Iterator[DebianArchive]:
    """An empty archive on a local server that honours ranges, as mirrors do."""
    root = tmp_path / "archive"
    root.mkdir()
    holder: list[DebianArchive] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.replace("%2b", "+").removeprefix("/debian/")
            status, body = _answer(root / path, self.headers.get("Range"))
            holder[0].requests.append((path, self.headers.get("Range"), status))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", MODIFIED)
            if status == 206:
                size = (root / path).stat().st_size
                self.send_header("Content-Range", f"bytes {size - len(body)}-{size - 1}/{size}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    holder.append(DebianArchive(root, key_home, f"http://127.0.0.1:{server.server_port}"))
    yield holder[0]
    server.shutdown()
    server.server_close()
    thread.join()


def _answer(file: Path, wanted: str | None) -> tuple[int, bytes]:
    if not file.is_file():
        return 404, b""
    content = file.read_bytes()
    start = re.match(r"bytes=(\d+)-", wanted or "")
    return (206, content[int(start[1]) :]) if start else (200, content)


ImagesFactory = Callable[..., Images]


@pytest.fixture
def images_of(archive: DebianArchive, tmp_path: Path) -> ImagesFactory:
    """`images_of(catalogue_yaml)`: Images over the test's archive, with remarks in `remarks`."""
    source = archive.source_file(tmp_path)

    def make(text: str, remarks: list[str] | None = None) -> Images:
        file = tmp_path / "catalogue.yaml"
        file.write_text(text)
        log = [] if remarks is None else remarks
        return Images(
            tmp_path / "cache",
            Catalogue.load([file]),
            lambda task, fraction: log.append(task),
            [source],
        )

    return make


def kernel_module(depends: str = "", softdep: str = "") -> bytes:
    """The smallest ELF file with a `.modinfo` section."""
    info = b"license=GPL\0depends=" + depends.encode() + b"\0"
    info += f"softdep={softdep}\0".encode() if softdep else b""
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 1, 243, 1, 0, 0, 64 + len(info) + len(names),
        0, 64, 0, 0, 64, 3, 2,
    )  # fmt: skip
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, 64, len(info), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0)
    return header + info + names + sections


@pytest.fixture
def make_module() -> Callable[..., bytes]:
    """`make_module(depends, softdep)`: a kernel module's file."""
    return kernel_module


@pytest.fixture(autouse=True)
def no_host_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catalogues and caches of whoever runs the tests are out of reach; so are proxies."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
