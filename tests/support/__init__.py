"""Helpers of the tests, in the same folders as the tests that use them."""
