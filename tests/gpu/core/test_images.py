"""Images and samplers."""

from __future__ import annotations

import struct

import pytest

from gpu import protocol as p
from gpu.opencl import ChannelOrder, ChannelType, MapFlags, MemFlags, MemObject, Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

RGBA = {"channel_order": ChannelOrder.RGBA, "channel_type": ChannelType.UNSIGNED_INT8}
ZERO = (0, 0, 0)
OUT = 1 << 20


def image(identifier: int, kind: int = MemObject.IMAGE2D, **more: int) -> p.CreateImage:
    return p.CreateImage(id=identifier, context=CONTEXT, type=kind, **{**RGBA, **more})


def read(guest: GuestBench, identifier: int, region: tuple[int, int, int]) -> bytes:
    size = region[0] * region[1] * region[2] * 4
    guest.do(
        p.ReadImage(
            queue=QUEUE, image=identifier, origin=ZERO, region=region, blob=BULK, blob_offset=OUT
        )
    )
    return guest.read(OUT, size)


SHAPES = {
    MemObject.IMAGE1D: ({"width": 16}, (16, 1, 1)),
    MemObject.IMAGE2D: ({"width": 8, "height": 4}, (8, 4, 1)),
    MemObject.IMAGE3D: ({"width": 8, "height": 4, "depth": 2}, (8, 4, 2)),
    MemObject.IMAGE2D_ARRAY: ({"width": 8, "height": 4, "array_size": 3}, (8, 4, 3)),
    MemObject.IMAGE1D_ARRAY: ({"width": 8, "array_size": 3}, (8, 3, 1)),
}


@pytest.mark.parametrize("kind", sorted(SHAPES), ids=lambda kind: kind.name)
def test_written_image_is_read_back(guest: GuestBench, kind: MemObject) -> None:
    shape, region = SHAPES[kind]
    size = region[0] * region[1] * region[2] * 4
    data = bytes(i * 7 & 255 for i in range(size))
    guest.write(0, data)
    guest.do(image(20, kind, **shape))
    fresh = read(guest, 20, region)

    guest.do(p.WriteImage(queue=QUEUE, image=20, origin=ZERO, region=region, blob=BULK))

    assert fresh == bytes(size)
    assert read(guest, 20, region) == data


def test_boxes_are_copied_and_filled(guest: GuestBench) -> None:
    guest.do(
        image(20, width=8, height=4),
        image(21, width=8, height=4),
        p.CreateBuffer(id=22, context=CONTEXT, size=256),
        p.FillImage(
            queue=QUEUE, image=20, origin=(1, 1, 0), region=(2, 2, 1),
            color=struct.pack("<4I", 1, 2, 3, 4),
        ),
        p.CopyImage(
            queue=QUEUE, source=20, destination=21, source_origin=(2, 2, 0),
            destination_origin=(0, 0, 0), region=(3, 1, 1),
        ),
        p.CopyImageToBuffer(
            queue=QUEUE, image=21, buffer=22, origin=ZERO, region=(2, 1, 1), buffer_offset=8
        ),
        p.CopyBufferToImage(
            queue=QUEUE, image=21, buffer=22, origin=(6, 3, 0), region=(2, 1, 1), buffer_offset=4
        ),
    )  # fmt: skip
    pixel = bytes([1, 2, 3, 4])

    filled, copied = read(guest, 20, (8, 4, 1)), read(guest, 21, (8, 4, 1))

    assert filled[32 + 4 : 32 + 12] == filled[64 + 4 : 64 + 12] == pixel * 2
    assert filled.count(pixel) == 4
    assert copied[:12] == pixel + bytes(8)
    assert copied[-8:] == bytes(4) + pixel


SAMPLE = """
__kernel void half_size(read_only image2d_t in, sampler_t s, __global uint4 *out) {
    int2 at = (int2)(get_global_id(0), get_global_id(1));
    float2 place = (float2)((at.x * 2 + 0.5f) / 4, (at.y * 2 + 0.5f) / 4);
    out[at.y * 2 + at.x] = read_imageui(in, s, place);
}
__kernel void draw(write_only image2d_t out) {
    int2 at = (int2)(get_global_id(0), get_global_id(1));
    write_imageui(out, at, (uint4)(at.x, at.y, 9, 255));
}
"""


def test_kernel_samples_and_draws(guest: GuestBench) -> None:
    guest.program(10, SAMPLE)
    guest.write(0, bytes(range(64)))
    guest.do(
        image(20, width=4, height=4, blob=BULK, flags=MemFlags.COPY_HOST_PTR),
        image(21, width=4, height=4),
        p.CreateSampler(id=22, context=CONTEXT, normalized=1, addressing=0x1131, filter=0x1140),
        p.CreateBuffer(id=23, context=CONTEXT, size=4096, blob=BULK, blob_offset=4096),
        p.CreateKernel(id=11, program=10, function_name=b"half_size"),
        p.CreateKernel(id=12, program=10, function_name=b"draw"),
        p.SetArgumentObject(kernel=11, index=0, object=20),
        p.SetArgumentObject(kernel=11, index=1, object=22),
        p.SetArgumentObject(kernel=11, index=2, object=23),
        p.SetArgumentObject(kernel=12, index=0, object=21),
        p.NdRange(queue=QUEUE, kernel=11, dimensions=2, global_size=(2, 2, 1)),
        p.NdRange(queue=QUEUE, kernel=12, dimensions=2, global_size=(4, 4, 1)),
    )

    sampled = struct.unpack("<16I", guest.read(4096, 64))
    assert sampled[::4] == (0, 8, 32, 40)
    assert read(guest, 21, (4, 4, 1))[4 * 6 : 4 * 7] == bytes([2, 1, 9, 255])


def test_image_in_a_blob_is_mapped(guest: GuestBench) -> None:
    guest.write(4096, bytes(range(128)))
    guest.do(
        image(20, width=4, height=4, row_pitch=32, blob=BULK, blob_offset=4096),
        p.FillImage(
            queue=QUEUE, image=20, origin=ZERO, region=(1, 1, 1), color=struct.pack("<4I", *[9] * 4)
        ),
        p.MapImage(
            queue=QUEUE, image=20, origin=ZERO, region=(4, 4, 1),
            flags=MapFlags.READ | MapFlags.WRITE, id=30,
        ),
    )  # fmt: skip
    mapped = guest.read(4096, 8)
    guest.write(4096 + 32, b"line")
    guest.do(p.Unmap(queue=QUEUE, mapping=30))

    assert mapped == bytes([9, 9, 9, 9, 4, 5, 6, 7])
    assert read(guest, 20, (4, 4, 1))[16:20] == b"line"


@pytest.mark.parametrize("place", [{}, {"blob": BULK, "blob_offset": 8192}], ids=["device", "blob"])
@pytest.mark.parametrize("buffer", [22, 23], ids=["whole", "part"])
def test_image_of_a_buffer(guest: GuestBench, place: dict[str, int], buffer: int) -> None:
    guest.do(
        p.CreateBuffer(id=22, context=CONTEXT, size=4096, **place),
        p.CreateSubBuffer(id=23, buffer=22, origin=1024, size=1024),
        p.FillBuffer(queue=QUEUE, buffer=22, size=1024, pattern=b"\x05"),
        p.FillBuffer(queue=QUEUE, buffer=23, size=1024, pattern=b"\x05"),
        image(21, MemObject.IMAGE1D_BUFFER, width=16, buffer=buffer),
        p.Release(id=23),
        p.Release(id=22),
    )

    assert read(guest, 21, (16, 1, 1)) == b"\x05" * 64


def test_formats_of_the_device(guest: GuestBench) -> None:
    answer = guest.ask(p.GetImageFormats(context=CONTEXT, flags=0, type=MemObject.IMAGE2D))

    pairs = list(zip(answer.formats[::2], answer.formats[1::2], strict=True))
    assert (ChannelOrder.RGBA, ChannelType.UNSIGNED_INT8) in pairs


REFUSED = {
    "no width": (image(20, width=0, height=4), Status.INVALID_IMAGE_SIZE),
    "too wide": (image(20, width=1 << 40, height=4), Status.INVALID_IMAGE_SIZE),
    "no layers": (image(20, MemObject.IMAGE2D_ARRAY, width=4, height=4), Status.INVALID_IMAGE_SIZE),
    "no such type": (image(20, 0x10F0, width=4), Status.INVALID_IMAGE_DESCRIPTOR),
    "no such order": (
        image(20, width=4, height=4, channel_order=1), Status.INVALID_IMAGE_FORMAT_DESCRIPTOR,
    ),
    "a format that the device has not": (
        image(20, width=4, height=4, channel_order=ChannelOrder.RGBX),
        Status.IMAGE_FORMAT_NOT_SUPPORTED,
    ),
    "a pitch without a blob": (
        image(20, width=4, height=4, row_pitch=64), Status.INVALID_IMAGE_DESCRIPTOR,
    ),
    "a pitch that is too short": (
        image(20, width=4, height=4, row_pitch=8, blob=BULK), Status.INVALID_IMAGE_DESCRIPTOR,
    ),
    "beyond its blob": (
        image(20, width=4096, height=4096, blob=BULK), Status.INVALID_HOST_PTR,
    ),
    "of no buffer": (
        image(20, MemObject.IMAGE1D_BUFFER, width=4), Status.INVALID_IMAGE_DESCRIPTOR,
    ),
    "larger than its buffer": (
        image(20, MemObject.IMAGE1D_BUFFER, width=1000, buffer=13), Status.INVALID_IMAGE_SIZE,
    ),
    "a box beyond": (
        p.ReadImage(queue=QUEUE, image=11, origin=(1, 0, 0), region=(4, 4, 1), blob=BULK),
        Status.INVALID_VALUE,
    ),
    "an empty box": (
        p.ReadImage(queue=QUEUE, image=11, origin=ZERO, region=(4, 0, 1), blob=BULK),
        Status.INVALID_VALUE,
    ),
    "beyond the blob": (
        p.ReadImage(
            queue=QUEUE, image=11, origin=ZERO, region=(4, 4, 1), blob=BULK, blob_offset=1 << 60
        ),
        Status.INVALID_VALUE,
    ),
    "a pitch that overflows": (
        p.WriteImage(
            queue=QUEUE, image=11, origin=ZERO, region=(4, 4, 1), blob=BULK, row_pitch=1 << 62
        ),
        Status.INVALID_VALUE,
    ),
    "other formats": (
        p.CopyImage(
            queue=QUEUE, source=11, destination=12, source_origin=ZERO, destination_origin=ZERO,
            region=(1, 1, 1),
        ),
        Status.IMAGE_FORMAT_MISMATCH,
    ),
    "onto itself": (
        p.CopyImage(
            queue=QUEUE, source=11, destination=11, source_origin=ZERO,
            destination_origin=(1, 1, 0), region=(2, 2, 1),
        ),
        Status.MEM_COPY_OVERLAP,
    ),
    "a buffer as an image": (
        p.ReadImage(queue=QUEUE, image=13, origin=ZERO, region=(1, 1, 1), blob=BULK),
        Status.INVALID_MEM_OBJECT,
    ),
    "a repeating sampler of pixels": (
        p.CreateSampler(id=20, context=CONTEXT, normalized=0, addressing=0x1133, filter=0x1140),
        Status.INVALID_VALUE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refused(guest: GuestBench, case: str) -> None:
    command, error = REFUSED[case]
    guest.do(
        image(11, width=4, height=4),
        image(12, width=4, height=4, channel_type=ChannelType.SIGNED_INT8),
        p.CreateBuffer(id=13, context=CONTEXT, size=64),
    )

    assert Status(guest.status_of(command)) == error
