"""Tests of the wheel, the Debian package, its units and the documentation of deploying."""
