"""Build recipes: what they may say, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.images import DescriptionError
from hypervisor.images.recipe import load_recipe


def written(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_permissions_are_octal_and_sizes_have_units(tmp_path: Path) -> None:
    recipe = load_recipe(
        written(
            tmp_path,
            "format: ext4\narchitecture: riscv64\nsize: 64M\n"
            "directories: {/tmp: '1777', /etc: '0755'}\n"
            "files: {/etc/shadow: {text: '', mode: '0600'}}\n",
        )
    )
    assert recipe.size == 64 << 20
    assert recipe.directories == {"/tmp": 0o1777, "/etc": 0o755}
    assert recipe.files["/etc/shadow"].mode == 0o600


def test_base_is_added_to_with_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    beside = written(tmp_path / "base", "x", "motd")
    written(
        tmp_path / "base",
        "format: ext4\narchitecture: riscv64\nsize: 16M\nlabel: root\n"
        "files: {/etc/motd: motd, /etc/issue: {text: old}}\n",
        "base.yaml",
    )
    recipe = load_recipe(
        written(tmp_path, "base: base/base.yaml\nsize: 32M\nfiles: {/etc/issue: {text: new}}\n")
    )
    assert (recipe.size, recipe.label) == (32 << 20, "root")
    assert recipe.files["/etc/motd"].host == str(beside)
    assert recipe.files["/etc/issue"].text == "new"


def test_every_mistake_is_reported_at_its_place(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "format: ext3\n"
        "architecture: riscv64\n"
        "size: 64X\n"
        "module: [ext4]\n"
        "directories: [proc]\n"
        "nodes: {/dev/x: {type: char, major: 5, minor: -1, mode: 0644}}\n"
        "files: {/b: {text: a, host: b}, /c: {package: p}}\n"
        "scripts: {/init: 5}\n",
    )
    with pytest.raises(DescriptionError) as caught:
        load_recipe(file)
    assert caught.value.errors == [
        f"{file}:1:9: format: must be 'initramfs' or 'ext4', not 'ext3'",
        f"{file}:3:7: size: a size is a number with K, M or G, such as 64M, not '64X'",
        f"{file}:4:1: module: no such key; did you mean 'modules'?",
        f"{file}:5:1: directories: a path in the guest begins with '/', unlike 'proc'",
        f"{file}:6:47: nodes./dev/x.minor: must be at least 0, not -1",
        f"{file}:6:57: nodes./dev/x.mode: permissions are octal digits in quotes, such as "
        '"0755", not 644',
        f"{file}:7:13: files./b: give exactly one of host, text, image, or package with path",
        f"{file}:7:37: files./c: 'package' and 'path' belong together",
        f"{file}:8:18: scripts./init: must be text, not 5; write '5' in quotes",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("format: ext4\n", "an ext4 disk needs a 'size'"),
        ("format: ext4\nsize: 4K\n", "needs at least 16M"),
        ("format: initramfs\nsize: 4M\n", "'size' is for ext4 disks"),
        ("format: initramfs\npartition: true\n", "'partition' is for ext4 disks"),
        ("format: initramfs\nmodules: [ext4]\n", "'modules' needs a 'kernel'"),
        ("format: initramfs\npackages: [bash]\n", "'suites' must name at least one suite"),
        ("format: initramfs\nfiles: {/a: gone}\n", r":3:13: files./a: there is no file '.*gone'"),
        ("format: initramfs\nbase: gone.yaml\n", r":3:7: base: there is no recipe '.*gone.yaml'"),
        ("format: initramfs\nbase: recipe.yaml\n", "is based on itself"),
    ],
)
def test_contradictions_are_sentences(tmp_path: Path, text: str, sentence: str) -> None:
    file = written(tmp_path, "architecture: riscv64\n" + text)
    with pytest.raises(DescriptionError, match=sentence):
        load_recipe(file)
