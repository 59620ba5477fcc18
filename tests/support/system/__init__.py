"""Helpers of the tests of the running program."""
