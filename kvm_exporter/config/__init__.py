"""Files that operators write: read strictly, reloaded, replaced whole."""
