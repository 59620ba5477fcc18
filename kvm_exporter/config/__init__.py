"""Configuration files that operators write: strict parsing, reload on change, atomic replacement."""
