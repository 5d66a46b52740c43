"""How much a test tries that could go on for ever: random accesses, damaged files, programs."""

import os

IS_CAMPAIGN = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"


def effort(usual: int, campaign: int) -> int:
    """`usual` in every run of the tests, `campaign` in `make fuzz`."""
    return campaign if IS_CAMPAIGN else usual
