"""What a worker says of mistakes is believed as far as it makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from gpu.host.findings import MOST, Finding, parse_findings


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
