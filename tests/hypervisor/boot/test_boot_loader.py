"""Boot files by path: what they are, and refusals that name them."""

import os

import pytest

from hypervisor.boot.loadable import SIZE_LIMIT, BootError
from hypervisor.boot.loader import load_bytes, load_file, read_file


def test_a_linux_image_runs_wherever_it_is_placed(tmp_path, make_image):
    path = tmp_path / "Image"
    path.write_bytes(make_image())

    kernel = load_file(path, "riscv64")

    assert (kernel.kind, kernel.name, kernel.entry) == ("linux", str(path), 0)
    assert (kernel.size, kernel.text_offset) == (0x3000, 0x20_0000)


def test_an_elf_program_is_recognized(tmp_path, make_elf):
    path = tmp_path / "program"
    path.write_bytes(make_elf().build())

    assert load_file(path, "riscv64").kind == "elf"


def test_anything_else_is_raw_at_the_given_address(tmp_path):
    path = tmp_path / "fw.bin"
    path.write_bytes(b"raw bytes")

    program = load_file(path, "riscv64", address=0x8000_0000)

    assert (program.kind, program.segments) == ("raw", [(0x8000_0000, b"raw bytes")])
    assert (program.entry, program.size, program.arch) == (0x8000_0000, 9, None)


def test_messages_name_the_file_as_the_caller_does(tmp_path):
    with pytest.raises(BootError, match=r"^image:debian/linux: cannot be read \(No such file"):
        load_file(tmp_path / "missing", name="image:debian/linux")


def test_a_kernel_for_another_architecture_is_refused(tmp_path, make_image):
    path = tmp_path / "Image"
    path.write_bytes(make_image(magic=b"ARM\x64"))

    with pytest.raises(BootError, match="Image: is for aarch64, this machine is riscv64"):
        load_file(path, "riscv64")


def test_an_x86_kernel_is_refused_by_name():
    data = bytes(0x202) + b"HdrS" + bytes(512)

    with pytest.raises(BootError, match="bzImage: is an x86 Linux kernel"):
        load_bytes(data, "bzImage")


def test_an_empty_file_is_refused():
    with pytest.raises(BootError, match="fw: is empty"):
        load_bytes(b"", "fw")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(BootError, match=r"cannot be read \(Is a directory\)"):
        read_file(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(BootError, match="pipe: is not a regular file"):
        read_file(tmp_path / "pipe")


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(SIZE_LIMIT + 1)

    with pytest.raises(BootError, match="huge: is 256 MiB large; 256 MiB at most"):
        read_file(path)
