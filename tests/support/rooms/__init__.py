"""Helpers of the tests that mirror the rooms."""
