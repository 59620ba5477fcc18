"""Fuzz targets for everything that parses bytes from outside, and the properties that hold for any bytes."""
