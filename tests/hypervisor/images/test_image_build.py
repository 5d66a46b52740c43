"""Building recipes from packages of a local archive."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hypervisor.images import ImageError, cpio

if TYPE_CHECKING:
    from tests.hypervisor.images.conftest import DebianArchive, ImagesFactory

NOTHING = "images: {}\n"
HEAD = "format: initramfs\narchitecture: riscv64\nsuites: [sid]\n"
KERNEL = """\
images:
  kernel:
    architecture: riscv64
    suites: [sid]
    package: linux-binary
    modules: [linux-modules, linux-base]
    files:
      linux: boot/vmlinuz
      disk: {recipe: recipe.yaml}
"""


def recipe(folder: Path, text: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return file


def contents(archive: Path) -> dict[str, cpio.Member]:
    return {member.name: member for member in cpio.read(archive.read_bytes())}


@pytest.fixture
def kernel(archive: DebianArchive, make_module: Callable[..., bytes]) -> DebianArchive:
    """A kernel with three modules, one of them built in."""
    base = "usr/lib/modules/7.2"
    archive.add("sid", "linux-binary", {"boot/vmlinuz": b"Image"})
    archive.add("sid", "linux-base", {f"{base}/modules.builtin": b"kernel/virtio.ko\n"})
    archive.add(
        "sid",
        "linux-modules",
        {
            f"{base}/kernel/virtio_blk.ko.xz": lzma.compress(make_module("virtio")),
            f"{base}/kernel/ext4.ko": make_module("jbd2"),
            f"{base}/kernel/jbd2.ko": make_module(),
        },
    )
    archive.publish("sid")
    return archive


def test_initramfs_holds_what_the_recipe_says(images_of: ImagesFactory, tmp_path: Path) -> None:
    (tmp_path / "motd").write_text("hello\n")
    text = HEAD + (
        "directories: [/proc]\n"
        "links: {/bin: usr/bin}\n"
        "files: {/etc/motd: motd, /bin/x: {text: y, mode: '0700'}}\n"
        "scripts: {/init: '#!/bin/x'}\n"
        "nodes: {/dev/console: {type: char, major: 5, minor: 1}}\n"
    )
    found = contents(images_of(NOTHING).build(recipe(tmp_path, text)))
    assert {name: oct(member.mode) for name, member in found.items()} == {
        "bin": "0o120777",
        "dev": "0o40755",
        "dev/console": "0o20600",
        "etc": "0o40755",
        "etc/motd": "0o100644",
        "init": "0o100755",
        "proc": "0o40755",
        "usr": "0o40755",
        "usr/bin": "0o40755",
        "usr/bin/x": "0o100700",
    }
    assert found["etc/motd"].data == b"hello\n"
    assert found["dev/console"].device == (5, 1)


def test_same_inputs_are_built_once(images_of: ImagesFactory, tmp_path: Path) -> None:
    file = recipe(tmp_path, HEAD + "scripts: {/init: one}\n")
    remarks: list[str] = []
    first = images_of(NOTHING, remarks).build(file)
    assert images_of(NOTHING, remarks).build(file) == first
    assert remarks == ["building recipe"]
    file.write_text("description: other words\n" + file.read_text())
    assert images_of(NOTHING).build(file) == first


def test_changed_host_file_is_built_anew(images_of: ImagesFactory, tmp_path: Path) -> None:
    file = recipe(tmp_path, HEAD + "files: {/a: a}\n")
    (tmp_path / "a").write_text("one")
    first = images_of(NOTHING).build(file)
    (tmp_path / "a").write_text("two")
    second = images_of(NOTHING).build(file)
    assert [contents(built)["a"].data for built in (first, second)] == [b"one", b"two"]


def test_damaged_build_is_made_again_with_the_same_bytes(
    images_of: ImagesFactory, tmp_path: Path
) -> None:
    file = recipe(tmp_path, HEAD + "scripts: {/init: one}\n")
    built = images_of(NOTHING).build(file)
    content = built.read_bytes()
    built.chmod(0o644)
    built.write_bytes(b"damaged")
    assert images_of(NOTHING).build(file).read_bytes() == content


def test_compressed_initramfs_is_gzip_without_a_time(
    images_of: ImagesFactory, tmp_path: Path
) -> None:
    file = recipe(tmp_path, HEAD + "compress: gzip\nscripts: {/init: one}\n")
    content = images_of(NOTHING).build(file).read_bytes()
    assert content[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
    assert [member.name for member in cpio.read(gzip.decompress(content))] == ["init"]


def test_packages_come_with_what_they_depend_on(
    archive: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    archive.add("sid", "shell", {"usr/bin/sh": b"sh", "usr/share/doc/x": b"d"}, depends="libc")
    archive.add("sid", "libc", {"usr/lib/libc.so": b"libc"})
    archive.add("sid", "unrelated", {"usr/bin/other": b"other"})
    archive.publish("sid")
    text = HEAD + "packages: [shell]\nexclude: [usr/share/doc/**, usr/share/doc, usr/share]\n"
    found = contents(images_of(NOTHING).build(recipe(tmp_path, text)))
    assert sorted(found) == ["usr", "usr/bin", "usr/bin/sh", "usr/lib", "usr/lib/libc.so"]


def test_modules_come_with_their_dependencies_and_load_order(
    kernel: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    text = HEAD + "kernel: kernel\nmodules: [virtio, virtio_blk, ext4]\nlinks: {/lib: usr/lib}\n"
    recipe(tmp_path, text)
    found = contents(images_of(KERNEL).path("kernel/disk"))
    base = "usr/lib/modules/7.2"
    assert [name for name in found if name.endswith(".ko")] == [
        f"{base}/kernel/ext4.ko",
        f"{base}/kernel/jbd2.ko",
        f"{base}/kernel/virtio_blk.ko",
    ]
    assert found[f"{base}/modules.dep"].data == (
        b"kernel/virtio_blk.ko:\nkernel/jbd2.ko:\nkernel/ext4.ko: kernel/jbd2.ko\n"
    )
    assert found["etc/modules"].data == b"virtio_blk\next4\n"


def test_kernel_alone_is_fetched_without_its_modules(
    kernel: DebianArchive, images_of: ImagesFactory
) -> None:
    assert images_of(KERNEL).path("kernel/linux").read_bytes() == b"Image"
    debs = [path for path, _, _ in kernel.requests if path.endswith(".deb")]
    assert debs == ["pool/linux-binary_1.0_riscv64.deb"]


def test_disk_takes_an_images_file_and_a_packages_file(
    kernel: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    text = (
        "format: ext4\narchitecture: riscv64\nsuites: [sid]\nsize: 16M\n"
        "files:\n"
        "  /boot/linux: {image: kernel/linux}\n"
        "  /boot/copy: {package: linux-binary, path: boot/*}\n"
    )
    recipe(tmp_path, text)
    disk = images_of(KERNEL).path("kernel/disk")
    read = [
        subprocess.run(
            ["/usr/sbin/debugfs", "-R", f"cat /boot/{name}", str(disk)],
            capture_output=True,
            check=True,
        ).stdout
        for name in ("linux", "copy")
    ]
    assert read == [b"Image", b"Image"]


def test_rebuild_in_another_cache_has_the_same_bytes(
    kernel: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    text = "format: ext4\narchitecture: riscv64\nsize: 16M\nkernel: kernel\nmodules: [ext4]\n"
    recipe(tmp_path, text + "suites: [sid]\n")
    first = images_of(KERNEL).path("kernel/disk")
    content = first.read_bytes()
    (tmp_path / "cache").rename(tmp_path / "other cache")
    second = images_of(KERNEL).path("kernel/disk")
    assert second == first
    assert second.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kernel: kernal\nmodules: [ext4]\n", "no image 'kernal' .*; did you mean 'kernel'"),
        ("kernel: kernel\nmodules: [ext5]\n", "no module 'ext5'; did you mean 'ext4'"),
        ("files: {/a: {package: linux-base, path: a}}\n", "package linux-base holds no file 'a'"),
        ("files: {/a: {image: kernel/linus}}\n", "no file 'linus'; did you mean 'linux'"),
        ("packages: [linux-nothing]\n", "suite sid has no package 'linux-nothing'"),
        (
            "files: {/a: {text: b}}\nlinks: {/a/b: c}\n",
            "'/a' cannot be both a directory and a file",
        ),
    ],
)
def test_what_cannot_be_built_is_a_sentence(
    kernel: DebianArchive, images_of: ImagesFactory, tmp_path: Path, text: str, sentence: str
) -> None:
    file = recipe(tmp_path, HEAD + text)
    with pytest.raises(ImageError, match=sentence):
        images_of(KERNEL).build(file)


def test_damaged_package_is_fetched_again(
    kernel: DebianArchive, images_of: ImagesFactory, tmp_path: Path
) -> None:
    recipe(tmp_path, HEAD + "kernel: kernel\nmodules: [ext4]\n")
    images_of(KERNEL).path("kernel/disk")
    (module,) = (tmp_path / "cache").glob("packages/*/files/usr/lib/modules/7.2/kernel/jbd2.ko")
    module.chmod(0o644)
    module.write_bytes(b"damaged")
    recipe(tmp_path, HEAD + "kernel: kernel\nmodules: [ext4, virtio_blk]\n")
    remarks: list[str] = []
    found = contents(images_of(KERNEL, remarks).path("kernel/disk"))
    assert found["lib/modules/7.2/kernel/jbd2.ko"].data.startswith(b"\x7fELF")
    assert "the cached package linux-modules was damaged: fetching it again" in remarks
