from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.config.node import Node, merge, prune
from hypervisor.config.problem import DescriptionError, Mark
from hypervisor.config.sources import (
    find_file,
    parse_override,
    read_description,
    read_text,
    shipped_directory,
)

NAMES = st.text("abcdefg_", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | NAMES
TREES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
MAPPINGS = st.dictionaries(NAMES, TREES, max_size=4)


def node_of(data: Any) -> Node:
    mark = Mark("f", 1, 1)
    if isinstance(data, dict):
        return Node({key: node_of(each) for key, each in data.items()}, mark, mark)
    if isinstance(data, list):
        return Node([node_of(each) for each in data], mark, mark)
    return Node(data, mark, mark, str(data))


def error_of(path: Path, *overrides: str) -> str:
    with pytest.raises(DescriptionError) as caught:
        read_description(str(path), overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


def write(directory: Path, **files: str) -> Path:
    """Files by name without `.yaml`; the path of `top`."""
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory / "top.yaml"


# -- inheritance ------------------------------------------------------------------------------


def test_base_is_merged_below_the_file(tmp_path: Path) -> None:
    top = write(
        tmp_path,
        top="base: low.yaml\na: {x: 2}\nl: [3]\n",
        low="a: {x: 1, y: 1}\nl: [1, 2]\nb: 1\n",
    )
    assert read_description(str(top)).plain() == {"a": {"x": 2, "y": 1}, "l": [3], "b": 1}


def test_values_keep_the_file_they_come_from(tmp_path: Path) -> None:
    top = write(tmp_path, top="base: low.yaml\na: 1\n", low="\nb: 1\n")
    node = read_description(str(top))
    assert str(node.value["b"].mark) == f"{tmp_path}/low.yaml:2:4"


def test_null_takes_an_inherited_key_away(tmp_path: Path) -> None:
    top = write(
        tmp_path, top="base: low.yaml\na: {x: null}\nb:\n", low="a: {x: 1, y: 1}\nb: {c: 1}"
    )
    assert read_description(str(top)).plain() == {"a": {"y": 1}}


def test_bases_of_bases_are_relative_to_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", mid="base: low.yaml\n", low="a: 1\n")
    top = write(tmp_path, top="base: sub/mid.yaml\n")
    assert read_description(str(top)).plain() == {"a": 1}


def test_base_that_inherits_from_itself_is_reported_where_it_closes(tmp_path: Path) -> None:
    top = write(tmp_path, top="base: low.yaml\n", low="a: 1\nbase: top.yaml\n")
    message = error_of(top).replace(f"{tmp_path}/", "")
    assert message == "low.yaml:2:7: base: 'top.yaml' inherits from itself"


def test_missing_base_names_the_nearest_file(tmp_path: Path) -> None:
    top = write(tmp_path, top="base: commn.yaml\n", common="a: 1\n")
    message = error_of(top)
    assert message == "top.yaml:1:7: base: no file 'commn.yaml'; did you mean 'common.yaml'?"


def test_base_must_be_one_name(tmp_path: Path) -> None:
    top = write(tmp_path, top="base: [a, b]\n")
    assert error_of(top) == "top.yaml:1:7: base: must be the name of one file"


def test_base_that_is_a_directory_cannot_be_read(tmp_path: Path) -> None:
    top = write(tmp_path, top="base: .\n")
    assert "top.yaml:1:7: cannot read" in error_of(top)


def test_endless_inheritance_is_refused(tmp_path: Path) -> None:
    for index in range(20):
        (tmp_path / f"f{index}.yaml").write_text(f"base: f{index + 1}.yaml\n")
    assert "more than 16 files inherit from each other" in error_of(tmp_path / "f0.yaml")


def test_error_in_a_base_is_reported_in_that_file(tmp_path: Path) -> None:
    top = write(tmp_path, top="base: low.yaml\n", low="a: [\n")
    assert error_of(top).startswith("low.yaml:2:1: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "top.yaml:1:1: is empty; a description begins with machine: NAME"),
        ("- a", "top.yaml:1:1: must be a mapping such as machine: NAME"),
        ("just text", "top.yaml:1:1: must be a mapping such as machine: NAME"),
    ],
)
def test_document_must_be_a_mapping(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(write(tmp_path, top=text)) == message


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, machine="a: 1")
    message = error_of(tmp_path / "machin.yaml")
    assert message == "machin.yaml: no such file; did you mean 'machine.yaml'?"


def test_shipped_descriptions_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_file("configs/__init__.py", "")
    assert found == str(Path(shipped_directory()) / "__init__.py")


def test_own_file_wins_over_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/__init__.py").write_text("")
    assert find_file("configs/__init__.py", "") == "configs/__init__.py"


def test_shipped_name_in_another_directory_is_not_found() -> None:
    assert find_file("elsewhere/__init__.py", "") is None


@given(base=MAPPINGS, over=MAPPINGS)
def test_merge_keeps_what_is_laid_over(base: Any, over: Any) -> None:
    merged = prune(merge(node_of(base), node_of(over))).plain()
    said = {key: value for key, value in over.items() if not isinstance(value, dict | None)}
    assert {key: merged[key] for key in said} == prune(node_of(said)).plain()
    assert not {key for key, value in over.items() if value is None} & set(merged)


@given(base=MAPPINGS)
def test_merging_nothing_or_itself_changes_nothing(base: Any) -> None:
    plain = prune(node_of(base)).plain()
    assert prune(merge(node_of(base), node_of({}))).plain() == plain
    assert prune(merge(node_of(base), node_of(base))).plain() == plain
    assert prune(merge(node_of({}), node_of(base))).plain() == plain


# -- overrides --------------------------------------------------------------------------------


def test_override_replaces_one_value() -> None:
    node = read_text("a: {x: 1, y: 1}\n", "f", ["a.x=0x10"])
    assert node.plain() == {"a": {"x": 16, "y": 1}}


def test_override_makes_what_is_missing() -> None:
    assert read_text("a: 1\n", "f", ["b.c.d=[1, two]"]).plain() == {
        "a": 1,
        "b": {"c": {"d": [1, "two"]}},
    }


def test_later_overrides_win() -> None:
    assert read_text("a: 1\n", "f", ["a=2", "a=3"]).plain() == {"a": 3}


@pytest.mark.parametrize("override", ["b=", "b=null", "b=~"])
def test_empty_override_takes_a_key_away(override: str) -> None:
    assert read_text("a: 1\nb: {c: 1}\n", "f", [override]).plain() == {"a": 1}


def test_override_splits_at_the_first_equals_sign() -> None:
    node = parse_override("boot.command_line=console=ttyS0 quiet")
    assert node.plain() == {"boot": {"command_line": "console=ttyS0 quiet"}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "--set a: has no value; write --set PATH=VALUE"),
        ("=1", "--set : a name is missing; write --set a.b.c=VALUE"),
        ("a..b=1", "--set a..b: a name is missing; write --set a.b.c=VALUE"),
        ("base=x.yaml", "--set base: base cannot be set; it belongs in a file"),
        ("a=[1", "--set a: this '[' needs ',' between its values and a closing ']'"),
        ("a.b=1", "--set a.b: 'a' is not a mapping, so nothing below it can be set"),
        ("l.0=1", "--set l.0: 'l' is not a mapping, so nothing below it can be set"),
    ],
)
def test_wrong_override_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        read_text("a: 1\nl: [1]\n", "f", [override])
    assert str(caught.value) == message


def test_all_wrong_overrides_are_reported_at_once() -> None:
    with pytest.raises(DescriptionError) as caught:
        read_text("a: 1\n", "f", ["x", "y=[", "a.b=1"])
    assert len(caught.value.problems) == 3


@given(path=st.lists(NAMES, min_size=1, max_size=4), value=st.integers() | st.booleans() | NAMES)
def test_override_reads_back(path: list[str], value: Any) -> None:
    spelled = str(value).lower()
    node = read_text("{}", "f", [f"{'.'.join(path)}={spelled}"]).get(*path)
    assert node is not None
    assert node.text == spelled


@given(st.text())
def test_any_override_is_taken_or_a_description_error(text: str) -> None:
    outcomes = []
    try:
        outcomes.append(parse_override(text).is_mapping)
    except DescriptionError as error:
        outcomes.append(bool(error.problems))
    assert outcomes == [True]
