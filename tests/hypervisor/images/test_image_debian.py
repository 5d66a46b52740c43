"""The project's own catalogue against the host's Debian archive."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hypervisor.images import Images, cpio
from hypervisor.images.cache import default_directory
from hypervisor.images.catalogue import Catalogue, project_catalogue

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def images() -> Images:
    """The project's images, in the cache that the other guest tests use."""
    return Images(default_directory(), Catalogue.load([project_catalogue()]))


@pytest.mark.parametrize("reference", ["debian-riscv64/linux", "debian-riscv64-current/linux"])
def test_kernel_is_a_riscv_image(images: Images, reference: str) -> None:
    content = images.path(reference).read_bytes()
    assert content[:2] == b"MZ"
    assert content[0x38:0x3C] == b"RSC\x05"


def test_current_kernel_and_modules_are_one_version(images: Images) -> None:
    images.path("debian-riscv64-current/boot")
    entry = Catalogue.load([project_catalogue()]).located("debian-riscv64-current").entry
    packages = images.show("debian-riscv64-current/linux").files[0].package
    assert packages is not None
    names = {
        member.name.split("/")[2]
        for member in _members(images, "boot")
        if "/modules/" in member.name
    }
    assert names == {packages.name.removeprefix("linux-binary-")}
    assert entry.via == "linux-image-riscv64"


@pytest.mark.parametrize(
    ("file", "modules"),
    [
        ("boot", {"virtio_mmio.ko", "virtio_blk.ko", "ext4.ko", "jbd2.ko", "mbcache.ko"}),
        ("network", {"virtio_mmio.ko", "virtio_net.ko", "failover.ko", "net_failover.ko"}),
    ],
)
def test_initramfs_holds_busybox_and_its_modules(
    images: Images, file: str, modules: set[str]
) -> None:
    members = {member.name.rpartition("/")[2]: member for member in _members(images, file)}
    assert modules <= set(members)
    assert members["busybox"].data[:4] == b"\x7fELF"
    assert members["init"].data.startswith(b"#!/bin/busybox sh\n")


@pytest.mark.parametrize(("file", "offset"), [("root", 0), ("disk", 1 << 20)])
def test_disk_is_a_clean_file_system(images: Images, file: str, offset: int) -> None:
    disk = images.path(f"debian-riscv64-current/{file}")
    call = ["/usr/sbin/e2fsck", "-fn", f"{disk}?offset={offset}"]
    assert subprocess.run(call, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "reference", ["opensbi/fw_dynamic", "opensbi/fw_jump", "u-boot-riscv64/smode"]
)
def test_firmware_is_there(images: Images, reference: str) -> None:
    assert images.path(reference).stat().st_size > 100_000


def test_debian_system_is_built_from_packages(images: Images, tmp_path: Path) -> None:
    file = tmp_path / "bash.yaml"
    file.write_text(
        "format: ext4\narchitecture: riscv64\nsuites: [forky, sid]\nsize: 256M\n"
        "packages: [base-files, bash, coreutils]\n"
        "exclude: [usr/share/doc/**, usr/share/man/**, usr/share/locale/**]\n"
        "links: {/bin: usr/bin, /sbin: usr/sbin, /lib: usr/lib}\n"
    )
    disk = images.build(file)
    told = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "stat /usr/bin/bash", str(disk)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Type: regular    Mode:  0755" in told


def _members(images: Images, file: str) -> list[cpio.Member]:
    return list(cpio.read(images.path(f"debian-riscv64-current/{file}").read_bytes()))
