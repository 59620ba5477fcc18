"""The tests: a folder for each room of the package, and one for each kind of thing that is shipped."""
