"""Linux kernels in every wrapping."""

import gzip
import lzma
import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.boot import compression
from hypervisor.boot.linux import LinuxImage, read_linux
from hypervisor.boot.loadable import SIZE_LIMIT, BootError
from hypervisor.boot.loader import load_bytes
from tests.effort import effort

ZSTD = zstandard.ZstdCompressor(write_content_size=False).compress
PACKERS = {
    b"gzip": gzip.compress,
    b"xzkern": lzma.compress,
    b"lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    b"zstd": ZSTD,
    b"zstd22": ZSTD,
}


def test_a_riscv_image_is_recognized(make_image):
    image = read_linux(make_image(), "vmlinuz")

    assert image == LinuxImage(make_image(), 0x20_0000, 0x3000, "riscv64")


def test_an_early_riscv_image_with_only_the_first_magic_is_recognized(make_image):
    data = bytearray(make_image(magic=bytes(4)))
    data[0x30:0x38] = b"RISCV\0\0\0"

    assert read_linux(bytes(data), "vmlinuz").arch == "riscv64"


def test_an_aarch64_image_is_recognized(make_image):
    image = read_linux(make_image(magic=b"ARM\x64", text_offset=0), "vmlinuz")

    assert (image.arch, image.text_offset, image.image_size) == ("aarch64", 0, 0x3000)


def test_an_aarch64_image_without_a_size_has_the_old_offset(make_image):
    data = make_image(magic=b"ARM\x64", text_offset=0, image_size=0)

    image = read_linux(data, "vmlinuz")

    assert (image.text_offset, image.image_size) == (0x8_0000, len(data))


def test_an_image_takes_at_least_the_memory_its_file_fills(make_image):
    assert read_linux(make_image(image_size=16), "vmlinuz").image_size == len(make_image())


@pytest.mark.parametrize("data", [b"", b"x" * 63, b"x" * 4096])
def test_other_files_are_no_linux_image(data):
    assert read_linux(data, "file") is None


@pytest.mark.parametrize("method", PACKERS)
def test_a_zboot_image_is_unpacked(make_image, make_zboot, method):
    packed = make_zboot(PACKERS[method](make_image()), method)

    assert read_linux(packed, "vmlinuz").data == make_image()


@pytest.mark.parametrize("method", [b"xzkern", b"zstd", b"lzma"])
def test_a_length_appended_to_the_zboot_payload_is_ignored(make_image, make_zboot, method):
    payload = PACKERS[method](make_image())

    packed = make_zboot(payload + b"\x12\x34\x56\x00", method, size=len(payload))

    assert read_linux(packed, "vmlinuz").data == make_image()


@pytest.mark.parametrize("method", [b"gzip", b"xzkern", b"zstd"])
def test_a_compressed_image_is_unpacked(make_image, method):
    loadable = load_bytes(PACKERS[method](make_image()), "Image.gz")

    assert (loadable.kind, loadable.segments) == ("linux", [(None, make_image())])


def test_a_compressed_zboot_image_is_unpacked(make_image, make_zboot):
    packed = gzip.compress(make_zboot(gzip.compress(make_image()), b"gzip"))

    assert load_bytes(packed, "vmlinuz.gz").segments == [(None, make_image())]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"flags": 1}, "vmlinuz: is a big-endian kernel"),
        ({"image_size": 1 << 40}, "vmlinuz: its Linux header is damaged: image size"),
        ({"text_offset": 1 << 63}, "vmlinuz: its Linux header is damaged: image size"),
        ({"text_offset": 3}, "vmlinuz: its Linux header is damaged: text offset 0x3"),
    ],
)
def test_an_absurd_header_is_refused(make_image, changes, complaint):
    with pytest.raises(BootError, match=complaint):
        read_linux(make_image(**changes), "vmlinuz")


def with_pe_header(image: bytes, section_end: int) -> bytes:
    """An Image whose PE header has one section up to `section_end`."""
    data = bytearray(image)
    data[:2] = b"MZ"
    data[0x3C:0x40] = struct.pack("<I", 64)
    header = b"PE\0\0" + struct.pack("<HH12xHH", 0x5064, 1, 0, 0)
    section = bytes(16) + struct.pack("<II", section_end - 4096, 4096)
    data[64 : 64 + len(header + section)] = header + section
    return bytes(data)


def test_an_image_with_a_pe_header_is_the_same_image(make_image):
    data = with_pe_header(make_image(), len(make_image()))

    assert read_linux(data, "vmlinuz").data == data


def test_an_image_shorter_than_its_pe_sections_is_refused(make_image):
    data = with_pe_header(make_image(), len(make_image()) + 1)

    with pytest.raises(BootError, match=r"vmlinuz: is cut short: 6064 of at least 6065 bytes"):
        read_linux(data, "vmlinuz")


@pytest.mark.parametrize(
    ("payload", "method", "size", "complaint"),
    [
        (gzip.compress(b"x" * 99, mtime=0), b"gzip", None, "holds no RISC-V or AArch64"),
        (b"x" * 99, b"gzip", None, "gzip data is damaged"),
        (b"x" * 99, b"xzkern", None, "xz data is damaged"),
        (b"x" * 99, b"zstd", None, "zstd data is damaged"),
        (b"x" * 99, b"lz4", None, r"packed with 'lz4'; gzip, lzma, xz, zstd can be unpacked"),
        (b"x" * 99, b"gzip", 100, "payload ends at byte 164, the file at 163"),
        (gzip.compress(b"x" * 99, mtime=0)[:-9], b"gzip", None, "gzip data is cut short"),
    ],
)
def test_a_bad_zboot_image_is_refused(make_zboot, payload, method, size, complaint):
    with pytest.raises(BootError, match=f"vmlinuz: .*{complaint}"):
        read_linux(make_zboot(payload, method, size), "vmlinuz")


def test_a_cut_zboot_header_is_refused(make_zboot):
    with pytest.raises(BootError, match="header is cut short"):
        read_linux(make_zboot(b"", b"gzip")[:40], "vmlinuz")


@pytest.mark.parametrize("method", [b"gzip", b"xzkern", b"lzma", b"zstd"])
def test_a_decompression_bomb_is_refused(method):
    kind = method.decode().removesuffix("kern")
    bomb = PACKERS[method](bytes(9 << 20))

    with pytest.raises(BootError, match="bomb: unpacks to more than 8 MiB"):
        compression.decompress(bomb, kind, "bomb", limit=8 << 20)


@pytest.mark.parametrize("method", [b"gzip", b"xzkern", b"zstd"])
def test_cut_data_is_refused(method):
    kind = method.decode().removesuffix("kern")
    data = PACKERS[method](bytes(range(256)) * 64)

    with pytest.raises(BootError, match=f"its {kind} data is cut short"):
        compression.decompress(data[:-12], kind, "file")


def outcome_of_loading(data: bytes) -> bool:
    try:
        return load_bytes(data, "file").size <= SIZE_LIMIT
    except BootError as error:
        return str(error).startswith("file: ")


@settings(max_examples=effort(300, 20_000), deadline=None)
@given(
    st.sampled_from(
        [b"", b"MZ\0\0zimg", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x7fELF\2\1\1"]
    ),
    st.binary(max_size=200),
)
def test_random_files_load_or_are_refused(start, rest):
    assert outcome_of_loading(start + rest)


@settings(max_examples=effort(200, 20_000), deadline=None)
@given(st.integers(0, 63), st.integers(0, 255))
def test_a_damaged_image_header_loads_or_is_refused(place, byte):
    data = bytearray(struct.pack("<8xQQQ24x4sI", 0, 4096, 0, b"RSC\x05", 0) + bytes(64))
    data[place] = byte

    assert outcome_of_loading(bytes(data))
