"""Catalogues of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.images import Catalogue, DescriptionError, ImageError, parse_reference
from hypervisor.images.catalogue import project_catalogue
from hypervisor.images.recipe import load_recipe

GOOD = """\
images:
  debian:
    architecture: riscv64
    suites: [forky, sid]
    via: linux-image-riscv64
    package: linux-binary-*-riscv64
    modules: [linux-modules-*-riscv64]
    files:
      linux: usr/lib/modules/*/vmlinuz
      shell: {recipe: recipes/shell.yaml}
      other: {package: other, path: a/b}
"""


def written(folder: Path, text: str, name: str = "images.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_entry_asks_for_all_its_packages_together(tmp_path: Path) -> None:
    catalogue = Catalogue.load([written(tmp_path, GOOD)])
    request = catalogue.located("debian").entry.request
    assert request.packages == ("linux-binary-*-riscv64", "other", "linux-modules-*-riscv64")
    assert (request.suites, request.via) == (("forky", "sid"), "linux-image-riscv64")


def test_recipes_are_relative_to_their_catalogue(tmp_path: Path) -> None:
    catalogue = Catalogue.load([written(tmp_path, GOOD)])
    located, source = catalogue.file(parse_reference("image:debian/shell"))
    assert located.recipe(source) == tmp_path / "recipes" / "shell.yaml"


def test_later_catalogue_replaces_and_adds(tmp_path: Path) -> None:
    later = "images:\n  debian: {architecture: arm64, files: {}}\n"
    later += "  mine: {architecture: x, files: {}}\n"
    catalogue = Catalogue.load([written(tmp_path, GOOD), written(tmp_path, later, "mine.yaml")])
    assert catalogue.names() == ["debian", "mine"]
    assert catalogue.located("debian").entry.architecture == "arm64"


def test_users_catalogue_is_read_where_xdg_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "hypervisor").mkdir()
    written(tmp_path / "hypervisor", "images:\n  mine: {architecture: riscv64, files: {}}\n")
    assert "mine" in Catalogue.default().names()
    assert "debian-riscv64" in Catalogue.default().names()


def test_every_mistake_is_reported_at_its_place(tmp_path: Path) -> None:
    bad = written(
        tmp_path,
        "images:\n"
        "  a b: {architecture: riscv64, files: {}}\n"
        "  c: {architectur: riscv64, suites: forky, files: {}}\n"
        "  d:\n"
        "    architecture: riscv64\n"
        "    files: {x: {path: a, recipe: b}, y: {pth: a}, z/z: a}\n",
    )
    worse = written(tmp_path, "images:\n  e: {architecture: x, files: {f: a}}\n", "worse.yaml")
    with pytest.raises(DescriptionError) as caught:
        Catalogue.load([bad, worse])
    assert caught.value.errors == [
        f"{bad}:2:3: images.a b: 'a b' is no name here (letters, digits and . _ + - after the "
        "first)",
        f"{bad}:3:3: images.c.architecture: is missing (Debian's name: riscv64, arm64, amd64)",
        f"{bad}:3:7: images.c.architectur: no such key; did you mean 'architecture'?",
        f"{bad}:3:37: images.c.suites: must be a list, not 'forky'",
        f"{bad}:6:16: images.d.files.x: give either a path inside a package, or a recipe",
        f"{bad}:6:42: images.d.files.y.pth: no such key; did you mean 'path'?",
        f"{bad}:6:51: images.d.files.z/z: 'z/z' is no name here (letters, digits and . _ + - "
        "after the first)",
        f"{worse}:2:6: images.e: the file 'f' names no package, and the image has none",
    ]


def test_package_without_a_suite_is_a_mistake(tmp_path: Path) -> None:
    text = "images:\n  e: {architecture: x, package: p, files: {f: a}}\n"
    with pytest.raises(DescriptionError, match="'suites' must name at least one suite"):
        Catalogue.load([written(tmp_path, text)])


def test_missing_catalogue_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match=r"none.yaml: cannot be read: No such file"):
        Catalogue.load([tmp_path / "none.yaml"])


def test_unknown_names_come_with_the_nearest(tmp_path: Path) -> None:
    catalogue = Catalogue.load([written(tmp_path, GOOD)])
    with pytest.raises(ImageError, match="no image 'debain' in the catalogue; did you mean 'debi"):
        catalogue.located("debain")
    with pytest.raises(ImageError, match=r"no image 'nabled' in the catalogue$"):
        catalogue.located("nabled")
    with pytest.raises(
        ImageError, match=r"no file 'linus'; did you mean 'linux'.*has linux, other"
    ):
        catalogue.file(parse_reference("debian/linus"))


@pytest.mark.parametrize("text", ["", "image:", "debian", "image:debian/", "a/b/c", "../x", "a/.."])
def test_what_is_no_reference_is_a_sentence(text: str) -> None:
    with pytest.raises(ImageError, match="write image:NAME/FILE"):
        parse_reference(text)


def test_reference_reads_as_it_is_written() -> None:
    assert str(parse_reference("image:debian-riscv64/linux")) == "image:debian-riscv64/linux"


def test_project_catalogue_and_its_recipes_are_right() -> None:
    catalogue = Catalogue.load([project_catalogue()])
    located = [catalogue.located(name) for name in catalogue.names()]
    recipes = [
        load_recipe(place.recipe(source))
        for place in located
        for source in place.entry.files.values()
        if source.recipe
    ]
    kernels = [recipe.kernel for recipe in recipes if recipe.kernel]
    assert len(recipes) >= 5
    assert set(kernels) <= set(catalogue.names())
