"""Profiles of machines: samples by virtual time, exact coverage, accounts of devices."""
