"""Power control devices."""
