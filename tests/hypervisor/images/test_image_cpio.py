"""The cpio archives we write, judged by cpio itself and by our own reader."""

from __future__ import annotations

import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.images import cpio
from hypervisor.images.cpio import Member

names = st.text("abcdef-.é/", min_size=1, max_size=40).filter(lambda name: name != "TRAILER!!!")
members = st.builds(
    Member,
    names,
    st.sampled_from([stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777]),
    st.binary(max_size=100),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.tuples(st.integers(0, 4095), st.integers(0, 1 << 20)),
)


@given(st.lists(members, max_size=8))
def test_what_is_written_is_read_back(written: list[Member]) -> None:
    assert list(cpio.read(cpio.write(written))) == written


@given(st.lists(members, max_size=4), st.data())
def test_cut_archive_is_an_error_and_never_more(written: list[Member], data: st.DataObject) -> None:
    archive = cpio.write(written)
    cut = data.draw(st.integers(0, len(archive) - 8))
    with pytest.raises(ValueError, match=r"cpio|invalid literal"):
        list(cpio.read(archive[:cut]))


def test_cpio_lists_types_modes_and_names() -> None:
    archive = cpio.write(
        [
            Member("dev", stat.S_IFDIR | 0o755),
            Member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Member("init", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
            Member("sbin", stat.S_IFLNK | 0o777, b"bin"),
        ]
    )
    listed = subprocess.run(
        ["cpio", "-tv", "--quiet", "--numeric-uid-gid"],
        input=archive,
        capture_output=True,
        check=True,
        env={"TZ": "UTC", "LC_ALL": "C"},
    )
    lines = [" ".join(line.split()) for line in listed.stdout.decode().splitlines()]
    assert lines == [
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
        "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
        "-rwxr-xr-x 1 0 0 10 Jan 1 1970 init",
        "lrwxrwxrwx 1 0 0 3 Jan 1 1970 sbin -> bin",
    ]
    assert listed.stderr == b""
