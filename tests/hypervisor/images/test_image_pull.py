"""Pulling from a signed archive on this machine, as from the host's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hypervisor.images import Catalogue, ImageError, Images, NoPackageSource, PackageNotFound
from hypervisor.images.apt import Apt
from hypervisor.images.sources import Source

if TYPE_CHECKING:
    from tests.hypervisor.images.conftest import DebianArchive, ImagesFactory

TOOL = """\
images:
  tool:
    architecture: riscv64
    suites: [trixie, sid]
    package: tool
    files: {bin: usr/lib/*/tool.bin}
"""


def requested(archive: DebianArchive, suffix: str) -> list[tuple[str | None, int]]:
    return [(range_, status) for path, range_, status in archive.requests if path.endswith(suffix)]


def test_file_is_fetched_once_and_found_again(
    archive: DebianArchive, images_of: ImagesFactory
) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("trixie")
    first = images_of(TOOL).path("image:tool/bin")
    second = images_of(TOOL).path("tool/bin")
    assert first == second
    assert first.read_bytes() == b"tool"
    assert requested(archive, ".deb") == [(None, 200)]
    assert first.stat().st_mode & 0o777 == 0o444


def test_files_of_apt_are_left_alone_while_they_say_the_same(tmp_path: Path) -> None:
    source = Source("http://archive.example/debian", None)
    Apt(tmp_path, source, "trixie", "riscv64")
    files = [tmp_path / name for name in ("apt.conf", "archive.sources", "status")]
    for file in files:
        os.utime(file, (1, 1))

    Apt(tmp_path, source, "trixie", "riscv64")

    assert [file.stat().st_mtime for file in files] == [1, 1, 1]


def test_show_fetches_nothing(archive: DebianArchive, images_of: ImagesFactory) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("trixie")
    images = images_of(TOOL)
    (before,) = images.show("tool").files
    assert (before.path, before.source) == (None, "tool: usr/lib/*/tool.bin")
    assert archive.requests == []
    path = images.path("tool/bin")
    (after,) = images.show("tool/bin").files
    assert after.path == path
    assert after.package is not None
    assert (after.package.version, after.package.suite) == ("1.0", "trixie")


def test_pull_takes_a_newer_version(archive: DebianArchive, images_of: ImagesFactory) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"old"})
    archive.publish("trixie")
    old = images_of(TOOL).path("tool/bin")
    archive.packages.clear()
    archive.add("trixie", "tool", {"usr/lib/2.0/tool.bin": b"new"}, version="2.0")
    archive.publish("trixie")
    assert images_of(TOOL).path("tool/bin") == old
    assert images_of(TOOL).pull("tool")["bin"].read_bytes() == b"new"
    assert images_of(TOOL).path("tool/bin").read_bytes() == b"new"


def test_download_goes_on_where_it_was_cut(
    archive: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    deb = archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": bytes(1 << 20)})
    archive.publish("trixie")
    sha256 = archive.packages["trixie"][0].split("SHA256: ")[1].strip()
    partial = tmp_path / "cache" / "partial" / f"{sha256}.deb"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(deb.read_bytes()[:500_000])
    assert images_of(TOOL).path("tool/bin").stat().st_size == 1 << 20
    assert requested(archive, ".deb") == [("bytes=500000-", 206)]
    assert not partial.exists()


@pytest.mark.parametrize("damage", [b"evil", b"longer than it was", b""])
def test_damaged_file_is_fetched_again(
    archive: DebianArchive, images_of: ImagesFactory, damage: bytes
) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("trixie")
    path = images_of(TOOL).path("tool/bin")
    path.chmod(0o644)
    path.write_bytes(damage)
    remarks: list[str] = []
    assert images_of(TOOL, remarks).path("tool/bin").read_bytes() == b"tool"
    assert "image:tool/bin in the cache is damaged: fetching it again" in remarks


def test_package_that_is_not_what_the_index_says_is_refused(
    archive: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    deb = archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("trixie")
    archive.publish("sid")
    deb.write_bytes(deb.read_bytes().replace(b"tool", b"evil"))
    with pytest.raises(ImageError, match="trixie: tool: its index and its files are out of step"):
        images_of(TOOL).path("tool/bin")
    assert not list((tmp_path / "cache").glob("packages/*"))


def test_suite_out_of_step_is_told_and_the_next_one_tried(
    archive: DebianArchive, images_of: ImagesFactory
) -> None:
    archive.add("trixie", "early", {})
    archive.publish("trixie")
    index = archive.root / "dists" / "trixie" / "main" / "binary-riscv64" / "Packages"
    index.write_text("Package: later\n")
    archive.add("sid", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("sid")
    remarks: list[str] = []
    assert images_of(TOOL, remarks).path("tool/bin").read_bytes() == b"tool"
    (told,) = [remark for remark in remarks if "trying" in remark]
    assert told == (
        "suite trixie: its index and its files are out of step on this mirror (hash or size "
        "differs); trying the next suite"
    )


def test_unsigned_archive_is_refused(archive: DebianArchive, images_of: ImagesFactory) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("trixie", sign=False)
    archive.publish("sid", sign=False)
    with pytest.raises(NoPackageSource, match="signature cannot be verified"):
        images_of(TOOL).path("tool/bin")


def test_archive_signed_by_someone_else_is_refused(
    archive: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("trixie")
    source = tmp_path / "debian.sources"
    empty = tmp_path / "empty.gpg"
    empty.touch()
    source.write_text(source.read_text().replace(str(archive.keyring), str(empty)))
    with pytest.raises(NoPackageSource, match="signature cannot be verified"):
        images_of(TOOL).path("tool/bin")


def test_unknown_package_names_every_suite(
    archive: DebianArchive, images_of: ImagesFactory
) -> None:
    for suite in ("trixie", "sid"):
        archive.add(suite, f"other-{suite}", {})
        archive.publish(suite)
    with pytest.raises(PackageNotFound) as caught:
        images_of(TOOL).path("tool/bin")
    assert str(caught.value) == (
        "cannot find tool for riscv64: suite trixie has no package 'tool'; "
        "suite sid has no package 'tool'"
    )


def test_empty_suite_is_told(archive: DebianArchive, images_of: ImagesFactory) -> None:
    archive.publish("trixie")
    archive.publish("sid")
    with pytest.raises(NoPackageSource, match="suite trixie: its index is empty"):
        images_of(TOOL).path("tool/bin")


def test_unreachable_archive_is_no_package_source(tmp_path: Path) -> None:
    source = tmp_path / "sources.list"
    source.write_text("deb http://127.0.0.1:9/debian bookworm main\n")
    file = tmp_path / "images.yaml"
    file.write_text(TOOL)
    images = Images(tmp_path / "cache", Catalogue.load([file]), sources=[source])
    with pytest.raises(NoPackageSource, match="suite trixie: the archive cannot be reached"):
        images.path("tool/bin")


def test_cached_image_needs_no_archive(
    archive: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": b"tool"})
    archive.publish("trixie")
    images_of(TOOL).path("tool/bin")
    (tmp_path / "debian.sources").unlink()
    assert images_of(TOOL).path("tool/bin").read_bytes() == b"tool"


def test_pattern_means_what_the_metapackage_depends_on(
    archive: DebianArchive, images_of: ImagesFactory
) -> None:
    archive.add("sid", "linux-binary-7-riscv64", {"boot/vmlinuz": b"seven"})
    archive.add("sid", "linux-binary-8-riscv64", {"boot/vmlinuz": b"eight"})
    archive.add("sid", "linux-binary-9-riscv64", {"boot/vmlinuz": b"nine"})
    archive.add("sid", "linux-image-8", {}, depends="linux-binary-8-riscv64")
    archive.add("sid", "linux-image-riscv64", {}, depends="linux-image-8 (= 1.0)")
    archive.publish("sid")
    catalogue = TOOL.replace("[trixie, sid]", "[sid]").replace(
        "package: tool", "package: linux-binary-*-riscv64\n    via: linux-image-riscv64"
    )
    catalogue = catalogue.replace("usr/lib/*/tool.bin", "boot/vmlinuz")
    assert images_of(catalogue).path("tool/bin").read_bytes() == b"eight"


def test_file_that_no_package_holds_is_a_sentence(
    archive: DebianArchive, images_of: ImagesFactory
) -> None:
    archive.add("trixie", "tool", {"usr/lib/deep/er/tool.bin": b"tool"})
    archive.publish("trixie")
    with pytest.raises(ImageError, match=r"image:tool/bin: no file of tool matches 'usr/lib/\*/"):
        images_of(TOOL).path("tool/bin")


def test_progress_ends_at_one(archive: DebianArchive, tmp_path: Path) -> None:
    archive.add("trixie", "tool", {"usr/lib/1.0/tool.bin": bytes(3 << 20)})
    archive.publish("trixie")
    file = tmp_path / "images.yaml"
    file.write_text(TOOL)
    told: list[tuple[str, float | None]] = []
    images = Images(
        tmp_path / "cache",
        Catalogue.load([file]),
        lambda task, fraction: told.append((task, fraction)),
        [archive.source_file(tmp_path)],
    )
    images.pull("tool")
    fractions = [fraction for task, fraction in told if task == "tool 1.0" and fraction is not None]
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert fractions == sorted(fractions)
