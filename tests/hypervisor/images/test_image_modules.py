"""Kernel modules and what they need."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable

import pytest
import zstandard

from hypervisor.images.errors import ImageError
from hypervisor.images.modules import ModuleSet, dependency_file, module_name, without_signature

MakeModule = Callable[..., bytes]


def module_files(files: dict[str, bytes]) -> ModuleSet:
    return ModuleSet({path: (lambda data=data: data) for path, data in files.items()})


def test_dependencies_come_first_and_once(make_module: MakeModule) -> None:
    modules = module_files(
        {
            "kernel/fs/top.ko": make_module("left,right"),
            "kernel/fs/left.ko.xz": lzma.compress(make_module("base-part")),
            "kernel/fs/right.ko.gz": gzip.compress(make_module("base_part")),
            "kernel/fs/base-part.ko.zst": zstandard.compress(make_module()),
        }
    )
    closure = modules.closure(["top", "right"])
    assert [module.path for module in closure] == [
        "kernel/fs/base-part.ko",
        "kernel/fs/left.ko",
        "kernel/fs/right.ko",
        "kernel/fs/top.ko",
    ]
    assert all(module.data.startswith(b"\x7fELF") for module in closure)


def test_dependency_file_lists_the_first_to_load_last(make_module: MakeModule) -> None:
    modules = module_files(
        {
            "k/a.ko": make_module("b"),
            "k/b.ko": make_module("c"),
            "k/c.ko": make_module(),
        }
    )
    assert (
        dependency_file(modules.closure(["a"]))
        == b"k/c.ko:\nk/b.ko: k/c.ko\nk/a.ko: k/b.ko k/c.ko\n"
    )


def test_builtin_modules_are_left_out(make_module: MakeModule) -> None:
    modules = module_files(
        {
            "k/a.ko": make_module("built-in"),
            "modules.builtin": b"kernel/x/built-in.ko\nkernel/x/other.ko\n",
        }
    )
    assert [module.name for module in modules.closure(["a", "other"])] == ["a"]


def test_soft_dependency_is_taken_only_where_there_is_one(make_module: MakeModule) -> None:
    modules = module_files(
        {"k/a.ko": make_module("", "pre: b missing post: c"), "k/b.ko": make_module(),
         "k/c.ko": make_module()}
    )  # fmt: skip
    assert [module.name for module in modules.closure(["a"])] == ["b", "a"]


def test_shipped_dependencies_are_used(make_module: MakeModule) -> None:
    modules = module_files(
        {
            "k/a.ko": make_module(),
            "k/b.ko": make_module(),
            "k/c.ko": make_module(),
            "modules.dep": b"k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\n",
        }
    )
    assert [module.name for module in modules.closure(["a"])] == ["c", "b", "a"]


def test_circular_soft_dependencies_end(make_module: MakeModule) -> None:
    modules = module_files(
        {"k/a.ko": make_module("", "pre: b"), "k/b.ko": make_module("", "pre: a")}
    )
    assert [module.name for module in modules.closure(["a"])] == ["b", "a"]


def test_unknown_module_names_the_nearest(make_module: MakeModule) -> None:
    modules = module_files({"k/virtio_blk.ko": make_module()})
    with pytest.raises(ImageError, match="no module 'virtio_blok'; did you mean 'virtio_blk'"):
        modules.closure(["virtio-blok"])


def test_missing_dependency_names_who_needs_it(make_module: MakeModule) -> None:
    modules = module_files({"k/a.ko": make_module("gone")})
    with pytest.raises(ImageError, match="no module 'gone', which 'a' needs"):
        modules.closure(["a"])


@pytest.mark.parametrize("path", ["k/a.ko", "k/a.ko.xz", "k/a.ko.gz", "k/a.ko.zst"])
def test_damaged_module_is_a_sentence(path: str) -> None:
    modules = module_files({path: b"\x7fELnonsense"})
    with pytest.raises(ImageError, match="is damaged"):
        modules.closure(["a"])


def test_module_names_are_the_kernels() -> None:
    assert module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz") == "virtio_rng"


@pytest.mark.parametrize("signature", [b"", b"signature" * 50])
def test_signature_is_taken_off(make_module: MakeModule, signature: bytes) -> None:
    module = make_module("a")
    about = bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(signature).to_bytes(4, "big")
    signed = module + signature + about + b"~Module signature appended~\n"
    assert without_signature(signed) == module
    assert without_signature(module) == module
