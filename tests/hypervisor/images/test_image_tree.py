"""Trees of files as they will be in the guest."""

from __future__ import annotations

import pytest

from hypervisor.images.errors import ImageError
from hypervisor.images.tree import Node, Tree, directory


def file(content: bytes = b"") -> Node:
    return Node("file", 0o644, data=content)


def link(target: str) -> Node:
    return Node("link", 0o777, target=target)


def paths(tree: Tree) -> list[str]:
    return [path for path, _ in tree]


def test_parents_appear_before_what_they_hold() -> None:
    tree = Tree()
    tree.add("/a/b/c", file())
    tree.add("/a-b", file())
    assert paths(tree) == ["a", "a/b", "a/b/c", "a-b"]


def test_files_go_through_links_of_directories() -> None:
    tree = Tree()
    tree.add("/bin", link("usr/bin"))
    tree.add("/bin/sh", file())
    tree.add("/lib", link("/usr/lib"))
    tree.add("lib/x/../y", file())
    assert paths(tree) == ["bin", "lib", "usr", "usr/bin", "usr/bin/sh", "usr/lib", "usr/lib/x",
                           "usr/lib/y"]  # fmt: skip


def test_directory_of_a_package_leaves_a_link_alone() -> None:
    tree = Tree()
    tree.add("bin", link("usr/bin"))
    tree.add("bin", directory())
    assert tree.get("bin") == link("usr/bin")


def test_later_file_replaces_an_earlier_one() -> None:
    tree = Tree()
    tree.add("etc/motd", file(b"one"))
    tree.add("/etc/motd", file(b"two"))
    assert tree.get("etc/motd") == file(b"two")


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (("a", file()), ("a/b", file()), "cannot be inside of the file '/a'"),
        (("a", directory()), ("a", file()), "'/a' cannot be both a directory and a file"),
        (("a", link("a")), ("a/b", file()), "goes round in symbolic links"),
        (("a", directory()), ("a/..", file()), "must not end in"),
    ],
)
def test_contradictions_are_sentences(
    first: tuple[str, Node], second: tuple[str, Node], sentence: str
) -> None:
    tree = Tree()
    tree.add(*first)
    with pytest.raises(ImageError, match=sentence):
        tree.add(*second)


def test_dot_dot_stays_inside_of_the_tree() -> None:
    tree = Tree()
    tree.add("../../etc/passwd", file())
    assert paths(tree) == ["etc", "etc/passwd"]
