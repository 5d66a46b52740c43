"""qcow2 images that qemu-img and qemu-io made, judged by what qemu-img reads from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.disk import open_disk
from hypervisor.device import BackendError, BlockBackend
from tests.effort import effort

Qemu = Callable[..., None]

KINDS = {
    "v2": ["-o", "compat=0.10"],
    "v3": ["-o", "compat=1.1"],
    "v2-packed": ["-c", "-o", "compat=0.10"],
    "v3-packed": ["-c"],
    "v3-zstd": ["-c", "-o", "compression_type=zstd"],
    "cluster-512": ["-o", "cluster_size=512"],
    "cluster-512-packed": ["-c", "-o", "cluster_size=512"],
    "cluster-4k-zstd": ["-c", "-o", "cluster_size=4k,compression_type=zstd"],
    "cluster-2M": ["-o", "cluster_size=2M"],
    "cluster-2M-packed": ["-c", "-o", "cluster_size=2M"],
    "preallocated": ["-o", "preallocation=metadata"],
    "lazy": ["-o", "lazy_refcounts=on"],
}


@pytest.fixture(scope="module", params=KINDS)
def image(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    qemu: Qemu,
    content: bytes,
) -> Path:
    directory = tmp_path_factory.mktemp("qcow2")
    (directory / "disk.raw").write_bytes(content)
    path = directory / f"{request.param}.qcow2"
    qemu(
        "qemu-img", "convert", *KINDS[request.param], "-f", "raw", "-O", "qcow2",
        directory / "disk.raw", path,
    )  # fmt: skip
    return path


def test_whole_content_equals_what_was_converted(image: Path, content: bytes) -> None:
    disk = open_disk(image, overlay="none", read_only=True)

    assert disk.size == len(content)
    assert disk.read(0, disk.size) == content
    disk.close()


@settings(
    max_examples=effort(25, 1_000), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 8196), st.integers(1, 700)), max_size=12))
def test_any_sectors_equal_what_was_converted(
    image: Path, content: bytes, ranges: list[tuple[int, int]]
) -> None:
    disk = open_disk(image, overlay="none", read_only=True)

    for sector, count in ranges:
        start, end = sector * 512, min((sector + count) * 512, disk.size)
        assert disk.read(start, end - start) == content[start:end]
    disk.close()


def test_identity_is_that_of_the_raw_disk(image: Path, raw: Path) -> None:
    disk = open_disk(image, overlay="none", read_only=True)
    same = open_disk(raw, overlay="none", read_only=True)

    assert disk.identity() == same.identity()
    assert disk.identity().startswith("sha256:")


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("cluster", ["512", "4k", "64k", "2M"])
def test_image_changed_by_a_machine_reads_as_qemu_reads_it(
    tmp_path: Path, qemu: Qemu, compat: str, cluster: str
) -> None:
    image, flat = tmp_path / "disk.qcow2", tmp_path / "flat.raw"
    options = f"compat={compat},cluster_size={cluster}"
    qemu("qemu-img", "create", "-f", "qcow2", "-o", options, image, "20M")
    commands = [
        "write -P 1 0 64k",
        "write -P 2 100k 1M",
        "write -P 3 12345344 512",
        "write -z 256k 300k",
        "discard 600k 256k",
        "write -P 4 20971008 512",
        "write -P 5 15M 3M",
        "write -z -u 16M 1M",
    ]
    qemu("qemu-io", "-f", "qcow2", *[word for c in commands for word in ("-c", c)], image)
    qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, flat)

    disk = open_disk(image, overlay="none", read_only=True)

    assert disk.read(0, disk.size) == flat.read_bytes()


def test_image_with_internal_snapshot_shows_the_present(qcow2: Path, qemu: Qemu) -> None:
    qemu("qemu-img", "snapshot", "-c", "before", qcow2)
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", qcow2)

    disk = open_disk(qcow2, overlay="none", read_only=True)

    assert disk.read(0, 1 << 20) == b"\7" * (1 << 20)


@pytest.fixture
def chain(tmp_path: Path, raw: Path, qemu: Qemu) -> Path:
    """A raw base below an image below a larger image."""
    middle, top = tmp_path / "middle.qcow2", tmp_path / "top.qcow2"
    qemu("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", raw.name, middle)
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 512k", "-c", "write -z 2M 64k", middle)
    qemu("qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", middle.name, top, "9M")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 8 1100k 100k", top)
    return top


def test_backing_chain_reads_as_qemu_reads_it(chain: Path, tmp_path: Path, qemu: Qemu) -> None:
    qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", chain, tmp_path / "flat.raw")
    expected = (tmp_path / "flat.raw").read_bytes()

    disk = open_disk(chain, overlay="none", read_only=True)

    assert disk.size == 9 << 20
    assert disk.read(0, disk.size) == expected
    assert disk.read(1 << 20, 4096) == b"\x09" * 4096
    flat = open_disk(tmp_path / "flat.raw", overlay="none", read_only=True)
    assert disk.identity() == flat.identity()


def test_missing_backing_file_is_named(chain: Path, raw: Path) -> None:
    raw.unlink()

    with pytest.raises(BackendError, match=r"disk\.raw: no such file"):
        open_disk(chain, overlay="none", read_only=True)


@pytest.mark.parametrize(
    ("name", "format", "sentence"),
    [
        ("/etc/passwd", "raw", "outside the directory"),
        ("../secret", "raw", "outside the directory"),
        ("sub/../../secret", "raw", "outside the directory"),
        ("nbd://host/disk", "raw", "not a plain file name"),
        ('json:{"driver":"raw"}', "raw", "not a plain file name"),
        ("disk.raw", "vmdk", "must be raw or qcow2"),
        ("self.qcow2", "qcow2", "more than 16 deep"),
    ],
)
def test_unsafe_backing_file_is_refused(
    raw: Path, qemu: Qemu, name: str, format: str, sentence: str
) -> None:
    image = raw.with_name("self.qcow2")
    qemu("qemu-img", "create", "-u", "-f", "qcow2", "-F", format, "-b", name, image, "1M")

    with pytest.raises(BackendError, match=sentence):
        open_disk(image, overlay="none", read_only=True)


def test_writing_to_an_image_asks_for_an_overlay(qcow2: Path) -> None:
    with pytest.raises(BackendError, match="`overlay: keep` or `overlay: discard`"):
        open_disk(qcow2, overlay="none", read_only=False)


def test_write_to_a_read_only_image_fails(qcow2: Path) -> None:
    disk = open_disk(qcow2, overlay="none", read_only=True)

    changes: list[Callable[[BlockBackend], None]] = [
        lambda disk: disk.write(0, bytes(512)),
        lambda disk: disk.discard(0, 512),
        lambda disk: disk.write_zeroes(0, 512),
    ]
    for change in changes:
        with pytest.raises(OSError, match="read-only"):
            change(disk)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [("extended_l2=on", "extended L2"), ("data_file=data.raw", "external file")],
)
def test_unsupported_feature_is_refused_by_name(
    tmp_path: Path, qemu: Qemu, monkeypatch: pytest.MonkeyPatch, options: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    qemu("qemu-img", "create", "-f", "qcow2", "-o", options, "disk.qcow2", "1M")

    with pytest.raises(BackendError, match=sentence):
        open_disk("disk.qcow2", overlay="none", read_only=True)
