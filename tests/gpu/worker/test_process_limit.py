"""Whose processes count against a worker's limit."""

from __future__ import annotations

import pytest

from gpu.worker.sandbox import counts_by_namespace


@pytest.mark.parametrize(
    ("release", "counts"),
    [
        ("5.14.0-503.el9.x86_64", True),
        ("5.15.0", True),
        ("6.1.0-rc1", True),
        ("10.0", True),
        ("5.13.19", False),
        ("5.4.0-200-generic", False),
        ("4.18.0", False),
        ("unknown", False),
    ],
)
def test_user_namespaces_count_for_themselves_since_linux_5_14(release: str, counts: bool) -> None:
    assert counts_by_namespace(release) is counts
