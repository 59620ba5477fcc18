# The module that setup.py writes: the commit that this package was built from.

REVISION: str
