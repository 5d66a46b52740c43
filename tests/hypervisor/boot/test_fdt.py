"""The flattened device tree writer and reader, judged by dtc."""

import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.boot.dts import to_dts
from hypervisor.boot.fdt import MAX_DEPTH, FdtError, flatten, parse
from hypervisor.device.tree import Node, Ref, u64
from tests.effort import effort

cells = st.integers(0, (1 << 32) - 1)
texts = st.text(st.characters(min_codepoint=1, max_codepoint=0x17F), max_size=12)
items = cells | texts | st.binary(max_size=9)
values = items | st.just(True) | st.lists(items, max_size=4)
names = st.from_regex(r"[a-z][a-z0-9,._+-]{0,20}", fullmatch=True).filter(lambda n: n != "phandle")


def with_unique_names(children: list[Node]) -> list[Node]:
    return list({child.name: child for child in children}.values())


def nodes_of(children: st.SearchStrategy[list[Node]]) -> st.SearchStrategy[Node]:
    properties = st.dictionaries(names, values, max_size=4)
    return st.builds(Node, names, properties, children.map(with_unique_names))


trees = st.recursive(
    nodes_of(st.just([])), lambda below: nodes_of(st.lists(below, max_size=3)), max_leaves=8
).map(lambda node: Node("", node.properties, node.children))


def dtc(data: bytes, source: str, target: str) -> bytes:
    command = ["dtc", "-q", "-f", "-I", source, "-O", target]
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stdout


def small_machine() -> Node:
    root = Node("", {"#address-cells": 2, "#size-cells": 2, "compatible": ["acme,a", "acme,b"]})
    soc = root.add(
        Node("soc", {"#address-cells": 2, "#size-cells": 2, "ranges": True, "absent": False})
    )
    reg = [*u64(0x1000_0000, 0x100)]
    soc.add(Node("serial@10000000", {"reg": reg, "interrupt-parent": Ref("plic")}))
    soc.add(Node("plic@c000000", {"interrupts-extended": [Ref("intc"), 9]}, label="plic"))
    soc.add(Node("intc", {}, label="intc"))
    soc.add(Node("lonely", {}, label="unused"))
    return root


def test_values_are_encoded_as_the_specification_says():
    root = Node("", {"a": 1, "b": "hi", "c": b"\1\2\3", "d": True, "e": [1, "x", b"\xff"]})

    properties = parse(flatten(root)).properties

    assert properties == {
        "a": b"\0\0\0\1",
        "b": b"hi\0",
        "c": b"\1\2\3",
        "d": True,
        "e": b"\0\0\0\1x\0\xff",
    }


def test_phandles_count_in_tree_order_over_labels_referred_to():
    tree = parse(flatten(small_machine()))

    assert tree.find("soc/plic@c000000")["phandle"] == b"\0\0\0\1"
    assert tree.find("soc/intc")["phandle"] == b"\0\0\0\2"
    assert "phandle" not in tree.find("soc/lonely")
    assert tree.find("soc/serial@10000000")["interrupt-parent"] == b"\0\0\0\1"


def test_phandles_of_the_tree_itself_are_kept_and_not_given_twice():
    root = Node("", {"link": [Ref("a"), Ref("b")]})
    root.add(Node("a", {}, label="a"))
    root.add(Node("b", {"phandle": 1}, label="b"))

    assert parse(flatten(root))["link"] == struct.pack(">II", 2, 1)


def test_header_holds_version_boot_hart_and_sizes():
    blob = flatten(small_machine(), boot_hart=3)

    header = struct.unpack_from(">10I", blob)

    assert header[0] == 0xD00DFEED
    assert header[1] == len(blob)
    assert header[5:8] == (17, 16, 3)
    assert header[3] + header[8] == len(blob)


def test_each_property_name_is_in_the_strings_block_once():
    root = Node("", {"zebra": 1}, [Node("n", {"zebra": 2, "ant": 3})])

    blob = flatten(root)

    assert blob.endswith(b"ant\0zebra\0")
    assert blob.count(b"zebra") == 1


def test_dtc_reads_the_blob_without_a_warning():
    command = ["dtc", "-I", "dtb", "-O", "dts", "-W", "no-unit_address_vs_reg"]
    command += ["-W", "no-interrupts_extended_property", "-W", "no-interrupt_provider"]

    run = subprocess.run(
        command, input=flatten(small_machine()), capture_output=True, check=False, timeout=60
    )

    assert (run.returncode, run.stderr) == (0, b"")
    assert b"serial@10000000 {" in run.stdout


def test_dtc_sees_reservations():
    blob = flatten(Node(""), reservations=[(0x8000_0000, 0x20_0000)])

    source = dtc(blob, "dtb", "dts")

    assert b"/memreserve/\t0x0000000080000000 0x0000000000200000;" in source


def test_source_text_has_labels_and_compiles_to_the_same_tree():
    root = small_machine()

    source = to_dts(root, reservations=[(0x8000_0000, 0x1000)])

    assert "interrupts-extended = <&intc 0x9>;" in source
    assert "/memreserve/ 0x80000000 0x1000;" in source
    assert parse(dtc(source.encode(), "dts", "dtb")) == parse(flatten(root))


def test_source_text_of_an_odd_label_uses_the_phandle_number():
    root = Node("", {"link": Ref("uart-0")}, [Node("uart", {}, label="uart-0")])

    source = to_dts(root)

    assert "link = <0x1>;" in source
    assert parse(dtc(source.encode(), "dts", "dtb")) == parse(flatten(root))


@settings(max_examples=effort(25, 1_000), deadline=None)
@given(trees)
def test_any_tree_passes_through_dtc_unchanged(tree):
    blob = flatten(tree)

    assert parse(dtc(blob, "dtb", "dtb")) == parse(blob)
    assert parse(dtc(dtc(blob, "dtb", "dts"), "dts", "dtb")) == parse(blob)
    assert parse(dtc(to_dts(tree).encode(), "dts", "dtb")) == parse(blob)


@settings(max_examples=effort(50, 2_000), deadline=None)
@given(trees)
def test_source_text_of_a_parsed_tree_compiles_to_it(tree):
    parsed = parse(flatten(tree))

    assert flatten(parsed) == flatten(tree)


@settings(max_examples=effort(25, 1_000), deadline=None)
@given(trees)
def test_untyped_source_text_compiles_to_the_same_tree(tree):
    parsed = parse(flatten(tree))

    assert parse(dtc(to_dts(parsed).encode(), "dts", "dtb")) == parsed


def outcome_of_parsing(data: bytes) -> bool:
    try:
        return isinstance(parse(data), Node)
    except FdtError as error:
        return bool(str(error))


@settings(max_examples=effort(300, 50_000), deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_parse_or_are_refused(data, with_magic):
    head = struct.pack(">10I", 0xD00DFEED, 40 + len(data), 40, 40, 40, 17, 16, 0, 40, len(data))

    assert outcome_of_parsing(head * with_magic + data)


@settings(max_examples=effort(300, 50_000), deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_blob_parses_or_is_refused(place, byte):
    blob = bytearray(flatten(small_machine()))
    blob[place % len(blob)] = byte

    assert outcome_of_parsing(bytes(blob))


@pytest.mark.parametrize("length", [0, 39, 40, 100, 300])
def test_a_cut_blob_is_refused(length):
    with pytest.raises(FdtError, match=r"too few|cut short"):
        parse(flatten(small_machine())[:length])


@pytest.mark.parametrize(
    ("root", "complaint"),
    [
        (Node("", {"a": Ref("nowhere")}), "no node .* label 'nowhere'"),
        (Node("", {"a": 1 << 32}), r"0x100000000 does not fit .* u64\(\)"),
        (Node("", {"a": [-1]}), "-0x1 does not fit"),
        (Node("", {"a": "x\0y"}), "NUL"),
        (Node("", {"a b": 1}), "'a b' cannot be the name of a property"),
        (Node("", {}, [Node("a/b")]), "'a/b' cannot be the name of a node"),
        (Node("", {}, [Node("")]), "'' cannot be the name"),
        (Node("", {}, [Node("a"), Node("a")]), "/ has two nodes named a"),
        (Node("", {}, [Node("a", label="l"), Node("b", label="l")]), "two nodes .* label 'l'"),
    ],
)
def test_a_tree_that_cannot_be_written_is_refused(root, complaint):
    with pytest.raises(FdtError, match=complaint):
        flatten(root)


def nested(levels: int) -> Node:
    root = node = Node("")
    for _ in range(levels - 1):
        node = node.add(Node("n"))
    return root


def test_the_deepest_allowed_tree_passes_both_ways():
    blob = flatten(nested(MAX_DEPTH))

    assert parse(blob) == nested(MAX_DEPTH)


def test_a_deeper_tree_is_refused_by_the_writer():
    with pytest.raises(FdtError, match="more than 64"):
        flatten(nested(MAX_DEPTH + 1))


def blob_of(structure: bytes) -> bytes:
    strings = b"a\0"
    size = 40 + len(structure) + len(strings)
    head = (0xD00DFEED, size, 40, 40 + len(structure), 40, 17, 16, 0, 2, len(structure))
    return struct.pack(">10I", *head) + structure + strings


BEGIN, END, PROP, FINISH = (struct.pack(">I", token) for token in (1, 2, 3, 9))
ROOT = BEGIN + bytes(4)
CHILD = BEGIN + b"c\0\0\0"
EMPTY_PROPERTY = PROP + bytes(8)


@pytest.mark.parametrize(
    ("structure", "complaint"),
    [
        (ROOT, "ends early"),
        (ROOT + PROP + struct.pack(">II", 1 << 31, 0), "ends early"),
        (ROOT + PROP + struct.pack(">II", 0, 1 << 31), "property name at 0x80000000"),
        (ROOT + EMPTY_PROPERTY * 2 + END + FINISH, "property a twice"),
        (ROOT + CHILD + END + EMPTY_PROPERTY + END + FINISH, "property a follows a node"),
        (ROOT + (CHILD + END) * 2 + END + FINISH, "two nodes named c"),
        (ROOT + CHILD * 64, "more than 64"),
        (ROOT + END + ROOT, "follows the root node"),
        (END, "no place there"),
        (CHILD, "node name at 0x4"),
        (BEGIN + b"abcd", "node name at 0x4"),
    ],
)
def test_a_malformed_structure_block_is_refused(structure, complaint):
    with pytest.raises(FdtError, match=complaint):
        parse(blob_of(structure))
