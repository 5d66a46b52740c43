"""Hostile qcow2 images: a sentence or an I/O error, in bounded memory, whatever the bytes are."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.disk import open_disk
from devices.disk.qcow2 import CLUSTER_CACHE_BYTES, L2_CACHE_BYTES
from hypervisor.device import BackendError
from tests.effort import effort

CLUSTER = 65536
L1, L2, DATA = CLUSTER, 2 * CLUSTER, 3 * CLUSTER
COMPRESSED = 1 << 62
GIB = 1 << 30

FIELDS = {
    "magic": (0, ">4s"), "version": (4, ">I"), "backing_offset": (8, ">Q"),
    "backing_size": (16, ">I"), "cluster_bits": (20, ">I"), "size": (24, ">Q"),
    "encryption": (32, ">I"), "l1_size": (36, ">I"), "l1_offset": (40, ">Q"),
    "refcount_offset": (48, ">Q"), "refcount_clusters": (56, ">I"),
    "incompatible": (72, ">Q"), "refcount_order": (96, ">I"),
    "header_length": (100, ">I"), "compression": (104, ">B"),
    "extension": (112, ">II"),
}  # fmt: skip


def craft(path: Path, l2: list[int], *, l1: list[int] | None = None, **fields: object) -> Path:
    """An image of one L2 table and one data cluster of 'd', with header fields as given."""
    image = bytearray(4 * CLUSTER)
    values: dict[str, object] = {
        "magic": b"QFI\xfb", "version": 3, "cluster_bits": 16, "size": GIB // 2, "l1_size": 1,
        "l1_offset": L1, "header_length": 112,
        "refcount_offset": L1, "refcount_clusters": 1, "refcount_order": 4,
    }  # fmt: skip
    for name, value in (values | fields).items():
        offset, layout = FIELDS[name]
        struct.pack_into(layout, image, offset, *(value if isinstance(value, tuple) else (value,)))
    entries = [L2] if l1 is None else l1
    struct.pack_into(f">{len(entries)}Q", image, L1, *entries)
    struct.pack_into(f">{len(l2)}Q", image, L2, *l2)
    image[DATA : DATA + CLUSTER] = b"d" * CLUSTER
    path.write_bytes(image)
    return path


def read_first(path: Path) -> bytes:
    disk = open_disk(path, overlay="none", read_only=True)
    try:
        return disk.read(0, CLUSTER)
    finally:
        disk.close()


def test_crafted_image_is_good_as_it_is(tmp_path: Path, qemu: Callable[..., None]) -> None:
    path = craft(tmp_path / "disk", [DATA])

    qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, tmp_path / "flat")

    assert read_first(path) == b"d" * CLUSTER
    with (tmp_path / "flat").open("rb") as flat:
        assert flat.read(CLUSTER) == b"d" * CLUSTER


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"version": 1}, "version 1 is not supported"),
        ({"version": 4}, "version 4 is not supported"),
        ({"cluster_bits": 8}, r"cluster size is 2\^8"),
        ({"cluster_bits": 22}, r"cluster size is 2\^22"),
        ({"cluster_bits": 0xFFFFFFFF}, "cluster size"),
        ({"size": 0}, "empty disk"),
        ({"size": 511}, "empty disk"),
        ({"size": 1 << 63}, "L1 table above 32 MiB"),
        ({"size": (1 << 64) - 1, "l1_size": 0xFFFFFFFF}, "L1 table above 32 MiB"),
        ({"size": GIB}, "L1 table has 1 entries, its disk needs 2"),
        ({"l1_size": 0}, "L1 table has 0 entries"),
        ({"l1_offset": 0}, "not a place inside"),
        ({"l1_offset": L1 + 8}, "not a place inside"),
        ({"l1_offset": 4 * CLUSTER}, "not a place inside"),
        ({"l1_offset": 0xFFFFFFFFFFFF0000}, "not a place inside"),
        ({"size": 2 << 50, "l1_size": 1 << 22, "l1_offset": L1}, "not a place inside"),
        ({"encryption": 1}, r"encrypted \(AES\)"),
        ({"encryption": 2}, r"encrypted \(LUKS\)"),
        ({"encryption": 9}, r"encrypted \(method 9\)"),
        ({"incompatible": 2}, "marked corrupt"),
        ({"incompatible": 4}, "external file"),
        ({"incompatible": 8}, "compression type contradicts"),
        ({"incompatible": 16}, "extended L2"),
        ({"incompatible": 1 << 40}, "incompatible feature bit 40"),
        ({"compression": 1}, "compression type contradicts"),
        ({"incompatible": 8, "compression": 7}, "compression type is 7"),
        ({"header_length": 96}, "header length is 96"),
        ({"header_length": 113}, "header length is 113"),
        ({"header_length": 1 << 31}, "header length"),
        ({"extension": (0xE2792ACA, 0xFFFFFFF0)}, "header extension 0xe2792aca"),
        ({"backing_offset": CLUSTER, "backing_size": 5}, "outside the first cluster"),
        ({"backing_offset": 512, "backing_size": 0}, "outside the first cluster"),
        ({"backing_offset": 512, "backing_size": 1 << 30}, "outside the first cluster"),
        ({"backing_offset": 512, "backing_size": 5}, "not a plain file name"),
    ],
)
def test_bad_header_is_refused_at_open(
    tmp_path: Path, fields: dict[str, Any], sentence: str
) -> None:
    path = craft(tmp_path / "disk", [DATA], **fields)

    with pytest.raises(BackendError, match=sentence) as refused:
        read_first(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unknown_feature_is_named_as_the_image_names_it(tmp_path: Path) -> None:
    path = craft(tmp_path / "disk", [DATA], incompatible=1 << 40, extension=(0x6803F857, 48))
    with path.open("r+b") as file:
        file.seek(120)
        file.write(struct.pack("BB46s", 0, 40, b"time travel"))

    with pytest.raises(BackendError, match="bit 40 \\('time travel'\\)"):
        read_first(path)


def test_dirty_image_is_read(tmp_path: Path) -> None:
    assert read_first(craft(tmp_path / "disk", [DATA], incompatible=1)) == b"d" * CLUSTER


@pytest.mark.parametrize("length", [0, 3, 4, 71, 72, 100, 111, 512])
def test_truncated_image_is_refused(tmp_path: Path, length: int) -> None:
    path = craft(tmp_path / "disk", [DATA])
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(BackendError):
        open_disk(path, overlay="none", read_only=True, format="qcow2")


@pytest.mark.parametrize(
    ("l1", "l2", "sentence"),
    [
        (4 * CLUSTER, 0, "an L2 table at 0x40000 is outside the file"),
        (0x00FFFFFFFFFF0000, 0, "outside the file"),
        (L2 + 512, 0, "not on a cluster's start"),
        (L2, 4 * CLUSTER, "a cluster at 0x40000 is outside the file"),
        (L2, DATA + 512, "not on a cluster's start"),
        (L2, COMPRESSED | 4 * CLUSTER, "compressed cluster at 0x40000 is outside the file"),
        (L2, COMPRESSED | ((1 << 62) - 1), "outside the file"),
        (L2, COMPRESSED | DATA, "the compressed cluster at 0x30000"),
    ],
)
def test_bad_table_entry_fails_the_read(tmp_path: Path, l1: int, l2: int, sentence: str) -> None:
    path = craft(tmp_path / "disk", [l2], l1=[l1])

    with pytest.raises(OSError, match=sentence):
        read_first(path)


def test_zero_cluster_in_version_2_fails_the_read(tmp_path: Path) -> None:
    path = craft(tmp_path / "disk", [1], version=2)

    with pytest.raises(OSError, match="version 2"):
        read_first(path)


def test_tables_that_point_at_themselves_end(tmp_path: Path) -> None:
    path = craft(tmp_path / "disk", [L2, L1, L2], l1=[L1])

    assert len(read_first(path)) == CLUSTER


def pack_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_decompression_stops_at_one_cluster(tmp_path: Path, kind: str) -> None:
    bomb = bytes(64 << 20)
    packed = pack_deflate(bomb) if kind == "zlib" else zstandard.compress(bomb, 1)
    fields: dict[str, Any] = {} if kind == "zlib" else {"incompatible": 8, "compression": 1}
    path = craft(tmp_path / "disk", [COMPRESSED | (255 << 54) | DATA], **fields)
    with path.open("r+b") as file:
        file.seek(DATA)
        file.write(packed[:CLUSTER])
    del bomb
    tracemalloc.start()

    assert read_first(path) == bytes(CLUSTER)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_zstd_frame_that_asks_for_a_huge_window_is_refused(tmp_path: Path) -> None:
    frame = struct.pack("<IBB", 0xFD2FB528, 0x00, (31 - 10) << 3) + b"\1\0\0"
    path = craft(tmp_path / "disk", [COMPRESSED | DATA], incompatible=8, compression=1)
    with path.open("r+b") as file:
        file.seek(DATA)
        file.write(frame)

    with pytest.raises(OSError, match="compressed cluster"):
        read_first(path)


def test_compressed_cluster_of_too_little_data_fails_the_read(tmp_path: Path) -> None:
    path = craft(tmp_path / "disk", [COMPRESSED | DATA])
    with path.open("r+b") as file:
        file.seek(DATA)
        file.write(pack_deflate(b"short"))

    with pytest.raises(OSError, match="too short"):
        read_first(path)


def test_table_cache_is_bounded(tmp_path: Path) -> None:
    tables = 8000
    path = craft(
        tmp_path / "disk", [DATA], l1=[L2] * tables, l1_size=tables, size=tables * GIB // 2
    )
    disk = open_disk(path, overlay="none", read_only=True)
    tracemalloc.start()

    for table in range(0, tables, 4):
        assert disk.read(table * GIB // 2, 512) == b"d" * 512

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < L2_CACHE_BYTES + (4 << 20)


def test_cluster_cache_is_bounded(tmp_path: Path) -> None:
    packed = pack_deflate(bytes(CLUSTER)).ljust(128, b"\0")
    clusters = CLUSTER // 128
    path = craft(tmp_path / "disk", [COMPRESSED | (DATA + 128 * n) for n in range(clusters)])
    with path.open("r+b") as file:
        file.seek(DATA)
        file.write(packed * clusters)
    disk = open_disk(path, overlay="none", read_only=True)
    tracemalloc.start()

    for cluster in range(clusters):
        assert disk.read(cluster * CLUSTER, 512) == bytes(512)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert clusters * CLUSTER > CLUSTER_CACHE_BYTES + (4 << 20) > peak


KINDS = [
    ["-o", "cluster_size=4k"],
    ["-c", "-o", "cluster_size=4k"],
    ["-c", "-o", "cluster_size=512,compression_type=zstd"],
]


@pytest.fixture(scope="module", params=range(len(KINDS)))
def small_image(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    qemu: Callable[..., None],
    content: bytes,
) -> bytes:
    directory = tmp_path_factory.mktemp("fuzz")
    (directory / "raw").write_bytes(content[: 96 * 1024])
    kind = KINDS[request.param]
    qemu("qemu-img", "convert", *kind, "-O", "qcow2", directory / "raw", directory / "disk")
    return (directory / "disk").read_bytes()


words = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from([b"\xff" * 8, bytes(8), b"\x40" + bytes(7), b"\x7f" + b"\xff" * 7]),
)
places = st.one_of(st.integers(0, 120), st.integers(0, 7000), st.integers(0, 1 << 18))


@settings(
    max_examples=effort(250, 10_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(places, words), min_size=1, max_size=6), st.integers(0, 1 << 40))
def test_any_damage_gives_a_sentence_or_an_io_error(
    small_image: bytes, tmp_path: Path, damage: list[tuple[int, bytes]], where: int
) -> None:
    image = bytearray(small_image)
    for offset, word in damage:
        at = offset % len(image)
        image[at : at + len(word)] = word
    path = tmp_path / "disk"
    path.write_bytes(image)

    with contextlib.suppress(BackendError, OSError):
        disk = open_disk(path, overlay="discard", read_only=False, format="qcow2")
        for offset in (0, where % disk.size & ~511, max(0, disk.size - CLUSTER)):
            with contextlib.suppress(OSError):
                length = min(CLUSTER, disk.size - offset)
                assert len(disk.read(offset, length)) == length
        disk.close()
