"""Helpers of the tests of packages and units."""
