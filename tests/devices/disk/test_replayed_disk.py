"""A disk written in place, as a replay has it: the same for the guest, and no file is written."""

from __future__ import annotations

import pytest

from devices.disk import open_disk
from devices.disk.image import content_state
from hypervisor.device import BackendError

SIZE = 1 << 18


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(b"a" * SIZE)
    return path


def change(disk):
    disk.write(4096, b"b" * 5000)
    disk.discard(65536, 4096)


@pytest.mark.parametrize("overlay", ["none", "keep"])
def test_content_is_that_of_the_disk_that_was_recorded(overlay, image, tmp_path):
    original = open_disk(image, overlay=overlay, read_only=False)
    original.close()
    replayed = open_disk(image, overlay=overlay, read_only=False, replayed=True)
    change(replayed)
    content = replayed.content()
    replayed.close()
    before = image.read_bytes()
    original = open_disk(image, overlay=overlay, read_only=False)
    change(original)

    assert content == original.save()
    assert before == b"a" * SIZE
    original.close()


def test_state_of_the_original_is_its_beginning(image):
    original = open_disk(image, overlay="none", read_only=False)
    state = original.save()
    original.close()
    replayed = open_disk(image, overlay="none", read_only=False, replayed=True)
    change(replayed)

    replayed.load(state)

    assert replayed.read(4096, 16) == b"a" * 16
    replayed.close()


def test_own_state_can_be_gone_back_to(image):
    replayed = open_disk(image, overlay="none", read_only=False, replayed=True)
    change(replayed)
    state = replayed.save()
    replayed.write(4096, b"c" * 512)

    replayed.load(state)

    assert replayed.read(4096, 512) == b"b" * 512
    replayed.close()


def test_other_content_is_refused(image):
    original = open_disk(image, overlay="none", read_only=False)
    state = content_state(original)
    original.write(0, b"z" * 512)
    original.close()
    replayed = open_disk(image, overlay="none", read_only=False, replayed=True)

    with pytest.raises(BackendError, match="the disk has changed since the snapshot"):
        replayed.load(state)
    replayed.close()


def test_disguise_as_another_format_is_refused_as_the_original_does(image):
    replayed = open_disk(image, overlay="none", read_only=False, replayed=True)

    with pytest.raises(OSError, match="may not turn this disk into qcow2"):
        replayed.write(0, b"QFI\xfb" + bytes(508))
    replayed.close()
