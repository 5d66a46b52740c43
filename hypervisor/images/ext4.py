"""ext4 disks by mke2fs(8) and debugfs(8), without root and the same bytes every time.

`mke2fs -d` copies a staged directory, whose owners and times are those of whoever stages it.
debugfs then writes the owner, mode and times of every inode and makes device nodes, so that neither
the user, the clock nor the host's mke2fs.conf shows in the result.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from hypervisor.images.cache import FINISHED
from hypervisor.images.errors import ImageError
from hypervisor.images.tree import Node, Tree, directory

PARTITION_START = 1 << 20

_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)
_SETTINGS = "blocksize = 4096\n inode_size = 256\n inode_ratio = 16384\n"
_SIZE_CLASSES = ("floppy", "small", "big", "huge")  # mke2fs adds one of these by itself
_CONFIGURATION = f"[defaults]\n {_SETTINGS}[fs_types]\n" + "".join(
    f" {name} = {{\n {_SETTINGS} }}\n" for name in ("ext4", *_SIZE_CLASSES)
)
_NAMES = uuid.UUID("8a3c8e0e-6d0b-5f1c-9f4e-5b8c6f1d2a77")


def write(
    tree: Tree, target: Path, size: int, label: str, identity: str, partition: bool = False
) -> None:
    """Make `target` a disk of `size` bytes that holds the tree in an ext4 file system.

    `identity` is any text that tells this image from others: its UUID and hash seed follow from it.
    With `partition` the file system is inside the only partition of an MBR. Raises ImageError.
    """
    start = PARTITION_START if partition else 0
    mke2fs, debugfs = program("mke2fs"), program("debugfs")
    volume = uuid.uuid5(_NAMES, identity)
    with tempfile.TemporaryDirectory(prefix=".stage-", dir=target.parent) as scratch:
        stage = Path(scratch) / "root"
        stage.mkdir()
        configuration = Path(scratch) / "mke2fs.conf"
        configuration.write_text(_CONFIGURATION)
        _stage(tree, stage)
        with target.open("wb") as file:
            file.truncate(size)
            if partition:
                file.write(_partition_table(size, volume))
        options = ["-q", "-F", "-t", "ext4", "-m", "0", "-O", _FEATURES]
        options += ["-U", str(volume), "-d", str(stage)]
        options += [
            "-E",
            f"hash_seed={volume},root_owner=0:0,lazy_itable_init=0,nodiscard,offset={start}",
        ]
        options += ["-L", label] if label else []
        output = _run([mke2fs, *options, str(target), f"{(size - start) >> 10}k"], configuration)
        if output is not None:
            raise ImageError(_failure(output, size))
        script = Path(scratch) / "script"
        script.write_text("\n".join(_corrections(tree)) + "\n", "utf-8", "surrogateescape")
        output = _run([debugfs, "-w", "-f", str(script), f"{target}?offset={start}"], configuration)
        if output is not None:
            raise ImageError(f"debugfs could not finish the disk: {output}")


def version() -> str:
    """What mke2fs calls itself: another version may lay a disk out differently."""
    result = subprocess.run([program("mke2fs"), "-V"], capture_output=True, text=True, check=False)
    return result.stderr.split("\n")[0].strip()


def program(name: str) -> str:
    """Path of a program of e2fsprogs, which PATH often leaves out for ordinary users."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if not found:
        raise ImageError(f"building an ext4 disk needs {name}: install the package e2fsprogs")
    return found


def _partition_table(size: int, volume: uuid.UUID) -> bytes:
    """A master boot record with one active Linux partition (type 0x83), addressed by sectors."""
    sectors = (size - PARTITION_START) // 512
    beyond = b"\xfe\xff\xff"  # "see the sector numbers": not addressed by cylinders
    entry = struct.pack("<B3sB3sII", 0x80, beyond, 0x83, beyond, PARTITION_START // 512, sectors)
    return bytes(440) + volume.bytes[:4] + bytes(2) + entry + bytes(48) + b"\x55\xaa"


def _stage(tree: Tree, root: Path) -> None:
    for path, node in tree:
        place = root / path
        if node.kind == "directory":
            place.mkdir()
        elif node.kind == "link":
            place.symlink_to(node.target)
        elif node.kind == "file" and isinstance(node.data, Path):
            shutil.copyfile(node.data, place)
        elif node.kind == "file":
            place.write_bytes(node.content())


def _corrections(tree: Tree) -> Iterator[str]:
    """debugfs commands that give every inode its owner, mode and times."""
    yield from _inode("/", directory())
    yield from _inode("/lost+found", directory(0o700))
    for path, node in tree:
        if any(character in path for character in '"\n'):
            raise ImageError(f"the name '/{path}' cannot be put on an ext4 disk here")
        if node.kind in ("char", "block", "fifo"):
            parent, _, name = path.rpartition("/")
            numbers = f" {node.device[0]} {node.device[1]}" if node.kind != "fifo" else ""
            yield f'cd "/{parent}"'
            yield f'mknod "{name}" {"p" if node.kind == "fifo" else node.kind[0]}{numbers}'
        yield from _inode(f"/{path}", node)


def _inode(path: str, node: Node) -> Iterator[str]:
    fields = {"mode": f"0{node.mode:o}", "uid": node.uid, "gid": node.gid, "generation": 0}
    for name, value in fields.items():
        yield f'set_inode_field "{path}" {name} {value}'
    for name in ("atime", "ctime", "mtime", "crtime"):
        yield f'set_inode_field "{path}" {name} @{FINISHED}'
        yield f'set_inode_field "{path}" {name}_extra 0'


def _run(command: list[str], configuration: Path) -> str | None:
    """The last line of a program's complaints, or None when it had none."""
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
        env=_environment(configuration),
    )
    ignored = ("debugfs 1.", "mke2fs 1.")
    lines = [line for line in result.stderr.splitlines() if line and not line.startswith(ignored)]
    return (lines or [f"exit code {result.returncode}"])[-1] if lines or result.returncode else None


def _environment(configuration: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "MKE2FS_CONFIG": str(configuration),
        "E2FSPROGS_FAKE_TIME": str(FINISHED),
        "SOURCE_DATE_EPOCH": str(FINISHED),
    }


def _failure(output: str, size: int) -> str:
    if "allocate" in output or "space" in output:
        return f"the files do not fit on a disk of {size >> 10} KiB: give the recipe a larger size"
    return f"mke2fs could not make the disk: {output}"
