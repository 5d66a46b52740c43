"""What a worker says of mistakes is believed as far as it makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from gpu.host import findings
from gpu.host.findings import MOST, Finding, Untold, parse_findings


def test_finding_is_what_was_sent() -> None:
    assert parse_findings([["k", "a race", "address 0x1", 3]]) == [
        Finding("k", "a race", "address 0x1", 3)
    ]


def test_text_is_a_short_line_for_a_terminal() -> None:
    (finding,) = parse_findings([["k\x1b[31m\n", "x" * 10_000, "", 1]])

    assert finding.kernel == "k?[31m?"
    assert len(finding.what) == 256


@pytest.mark.parametrize(
    "sent",
    [
        None,
        {},
        [[]],
        [["k", "w", "e"]],
        [["k", "w", "e", 0]],
        [["k", "w", "e", True]],
        [["k", "w", "e", 1 << 64]],
        [["k", "w", 5, 1]],
        [["k", "w", "e", 1]] * (MOST + 1),
    ],
)
def test_nonsense_is_refused(sent: Any) -> None:
    with pytest.raises(ValueError, match=r"findings|finding|times|text"):
        parse_findings(sent)


def finding(kernel: str, times: int = 1) -> Finding:
    return Finding(kernel, "a race", "address 0x1", times)


def test_what_was_found_is_told_at_its_message() -> None:
    untold = Untold()
    untold.add(1, [finding("k")])
    untold.add(3, [finding("k", 5), finding("other")])

    early, late, rest = untold.take(2), untold.take(3), untold.take(9)

    assert (early, late, rest) == ([finding("k")], [finding("k", 5), finding("other")], [])


def test_kinds_beyond_the_most_are_one() -> None:
    untold = Untold()

    for message in range(MOST):
        untold.add(message, [finding(f"k{message}-{n}") for n in range(MOST)])

    kinds = {each.kernel for each in untold.take(MOST)}
    assert kinds == {*(f"k0-{n}" for n in range(MOST)), ""}


def test_what_is_kept_until_it_is_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "_MOST_ENTRIES", 10)
    untold = Untold()

    for message in range(100):
        untold.add(message, [finding("k"), finding("other")])

    kept = untold.take(100)
    assert [each.what for each in kept] == ["a race"] * 10 + ["more was found than is told"]
    untold.add(101, [finding("k")])
    assert untold.take(101) == []
