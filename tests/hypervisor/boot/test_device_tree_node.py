"""Nodes as device models build them."""

from hypervisor.device.tree import Node, u64


def family() -> Node:
    return Node("", {}, [Node("a", {}, [Node("b")]), Node("c")])


def test_u64_gives_two_cells_each_high_half_first():
    assert u64(0x1_0000_0002, 3) == [1, 2, 0, 3]


def test_properties_are_set_and_read_by_name():
    node = Node("serial@0")

    node["clock-frequency"] = 3_686_400

    assert node["clock-frequency"] == 3_686_400
    assert "clock-frequency" in node


def test_find_follows_a_path():
    root = family()

    assert root.find("/a/b") is root.children[0].children[0]
    assert root.find("/") is root
    assert root.find("a/nothing") is None


def test_walk_goes_parents_first_in_order():
    assert [node.name for node in family().walk()] == ["", "a", "b", "c"]
