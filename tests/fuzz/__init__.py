"""Everything that parses bytes from outside, and what has to be true of it whatever the bytes are."""
