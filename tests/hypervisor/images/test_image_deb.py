"""Reading packages that dpkg-deb made."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.images.deb import member_path
from hypervisor.images.errors import ImageError
from hypervisor.images.unpacked import path_matches, unpack


def package(folder: Path, compression: str = "none") -> Path:
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: N <n@example.org>\nDescription: d\n"
    )
    (tree / "usr" / "bin").mkdir(parents=True)
    tool = tree / "usr" / "bin" / "tool"
    tool.write_bytes(b"content" * 1000)
    tool.chmod(0o4755)
    (tree / "usr" / "bin" / "same").hardlink_to(tool)
    (tree / "usr" / "bin" / "alias").symlink_to("tool")
    output = folder / "p.deb"
    call = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", str(tree), str(output)]
    subprocess.run(call, check=True, capture_output=True)
    return output


def packed(name: str, member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """An `ar` archive with one tar member, as hostile as the test wants."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    body = data.getvalue()
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n"
    return b"!<arch>\n" + header.encode() + body


@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_package_is_unpacked_with_its_metadata(tmp_path: Path, compression: str) -> None:
    manifest = unpack(package(tmp_path, compression), tmp_path / "out")
    tool = manifest["usr/bin/tool"]
    assert (tool["kind"], tool["mode"], tool["uid"], tool["size"]) == ("file", 0o4755, 0, 7000)
    assert manifest["usr/bin/alias"]["target"] == "tool"
    assert manifest["usr/bin/same"]["sha256"] == tool["sha256"]
    assert manifest["usr"]["kind"] == "directory"
    assert (tmp_path / "out/usr/bin/same").read_bytes() == b"content" * 1000


def test_links_are_described_but_not_made(tmp_path: Path) -> None:
    unpack(package(tmp_path), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out/usr/bin").iterdir()) == ["same", "tool"]


def test_set_user_id_is_not_given_to_files_on_the_host(tmp_path: Path) -> None:
    unpack(package(tmp_path), tmp_path / "out")
    assert (tmp_path / "out/usr/bin/tool").stat().st_mode & 0o7777 == 0o444


def test_file_outside_of_the_tree_is_refused(tmp_path: Path) -> None:
    evil = tmp_path / "evil.deb"
    evil.write_bytes(packed("data.tar", tarfile.TarInfo("./../../escaped"), b"x"))
    with pytest.raises(ImageError, match="outside of its tree"):
        unpack(evil, tmp_path / "deep" / "out")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a Debian package"),
        (b"PK\x03\x04", "is not a Debian package"),
        (b"!<arch>\n", "holds no data.tar"),
        (b"!<arch>\nshort", "bad ar header"),
        (packed("data.tar.lz", tarfile.TarInfo("x")), "compressed with 'lz' are not supported"),
        (packed("data.tar.xz", tarfile.TarInfo("x")), "is damaged"),
        (packed("data.tar.zst", tarfile.TarInfo("x")), "is damaged"),
        (packed("data.tar.gz", tarfile.TarInfo("x")), "is damaged"),
    ],
)
def test_what_is_no_package_is_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    bad = tmp_path / "bad.deb"
    bad.write_bytes(content)
    with pytest.raises(ImageError, match=sentence):
        unpack(bad, tmp_path / "out")


def test_cut_package_is_a_sentence(tmp_path: Path) -> None:
    whole = package(tmp_path).read_bytes()
    cut = tmp_path / "cut.deb"
    cut.write_bytes(whole[: len(whole) - 5000])
    with pytest.raises(ImageError, match="is damaged"):
        unpack(cut, tmp_path / "out")


@given(st.text("abc./", max_size=20))
def test_member_paths_never_leave_the_tree(name: str) -> None:
    try:
        path = member_path(name)
    except ImageError:
        path = ""
    assert not path.startswith("/")
    assert ".." not in path.split("/")


@pytest.mark.parametrize(
    ("path", "pattern", "matches"),
    [
        ("usr/lib/a.bin", "usr/*/a.bin", True),
        ("usr/lib/x/a.bin", "usr/*/a.bin", False),
        ("usr/lib/x/a.bin", "usr/**/a.bin", True),
        ("usr/a.bin", "usr/**/a.bin", True),
        ("usr/lib/a.bin", "**/a.bin", True),
        ("usr/lib/a.bin", "usr/lib/**", True),
        ("usr/lib/a.bin", "usr/lib", False),
        ("usr/lib/a.bin", "/usr/lib/[ab].bin", True),
    ],
)
def test_path_patterns(path: str, pattern: str, matches: bool) -> None:
    assert path_matches(path, pattern) is matches
