"""Helpers of the tests in real KVM guests."""
