"""ext4 disks, judged by e2fsck and debugfs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hypervisor.images import ext4
from hypervisor.images.errors import ImageError
from hypervisor.images.tree import Node, Tree, directory


def system() -> Tree:
    tree = Tree()
    tree.add("etc/hostname", Node("file", 0o640, uid=3, gid=70_000, data=b"guest\n"))
    tree.add("bin/su", Node("file", 0o4755, data=b"x" * 10_000))
    tree.add("bin/sh", Node("link", 0o777, target="su"))
    tree.add("tmp", directory(0o1777))
    tree.add("dev/console", Node("char", 0o600, device=(5, 1)))
    tree.add("dev/vda", Node("block", 0o660, gid=6, device=(254, 0)))
    tree.add("run/pipe", Node("fifo", 0o600))
    tree.add("a name with spaces", Node("file", 0o644, data=b"s"))
    for number in range(50):
        tree.add(f"many/{number}", Node("file", 0o644, data=b"%d" % number))
    return tree


def made(tmp_path: Path, name: str = "disk", partition: bool = False, size: int = 16 << 20) -> Path:
    target = tmp_path / name
    ext4.write(system(), target, size, "root", "identity", partition)
    return target


def debugfs(image: Path | str, command: str) -> str:
    call = [ext4.program("debugfs"), "-R", command, str(image)]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("partition", [False, True])
def test_disk_is_clean_and_of_its_size(tmp_path: Path, partition: bool) -> None:
    disk = made(tmp_path, partition=partition)
    where = f"{disk}?offset={ext4.PARTITION_START if partition else 0}"
    check = subprocess.run([ext4.program("e2fsck"), "-fn", where], capture_output=True, check=False)
    assert check.returncode == 0, check.stdout
    assert disk.stat().st_size == 16 << 20
    assert debugfs(where, "cat /etc/hostname") == "guest\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ["Type: directory", "Mode:  0755", "User:     0", "Group:     0"]),
        ("/lost+found", ["Mode:  0700", "User:     0"]),
        ("/etc/hostname", ["Type: regular", "Mode:  0640", "User:     3", "Group: 70000"]),
        ("/bin/su", ["Mode:  04755", "Size: 10000"]),
        ("/bin/sh", ["Type: symlink", 'Fast link dest: "su"']),
        ("/tmp", ["Type: directory", "Mode:  01777"]),
        ("/dev/console", ["Type: character special", "Mode:  0600", "05:01"]),
        ("/dev/vda", ["Type: block special", "Group:     6", "254:00"]),
        ("/run/pipe", ["Type: FIFO"]),
        ('"/a name with spaces"', ["Type: regular", "Mode:  0644"]),
    ],
)
def test_inode_is_as_described(tmp_path: Path, path: str, expected: list[str]) -> None:
    told = debugfs(made(tmp_path), f"stat {path}")
    assert [text for text in expected if text not in told] == []
    assert "mtime: 0x3b9aca00:00000000" in told


def test_same_tree_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(tmp_path, "first").read_bytes()
    monkeypatch.setenv("MKE2FS_CONFIG", "/nonexistent")
    previous = os.umask(0o077)
    second = made(tmp_path, "second").read_bytes()
    os.umask(previous)
    assert first == second


def test_identity_makes_the_uuid(tmp_path: Path) -> None:
    other = tmp_path / "other"
    ext4.write(system(), other, 16 << 20, "root", "another identity")
    uuids = {
        line
        for disk in (made(tmp_path), other)
        for line in debugfs(disk, "stats").splitlines()
        if line.startswith("Filesystem UUID")
    }
    assert len(uuids) == 2


def test_partition_covers_the_disk_after_its_start(tmp_path: Path) -> None:
    record = made(tmp_path, partition=True).read_bytes()[:512]
    assert record[510:] == b"\x55\xaa"
    assert (record[446], record[450]) == (0x80, 0x83)
    assert int.from_bytes(record[454:458], "little") == 2048
    assert int.from_bytes(record[458:462], "little") == (16 << 20) // 512 - 2048


def test_too_small_a_disk_is_a_sentence(tmp_path: Path) -> None:
    tree = Tree()
    tree.add("big", Node("file", 0o644, data=bytes(range(256)) * (64 << 10)))
    with pytest.raises(ImageError, match=r"do not fit on a disk of 16384 KiB.*larger size"):
        ext4.write(tree, tmp_path / "disk", 16 << 20, "", "x")


def test_missing_program_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ext4.shutil, "which", lambda name, path: None)
    with pytest.raises(ImageError, match="needs mke2fs: install the package e2fsprogs"):
        made(tmp_path)
