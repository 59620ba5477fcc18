"""What the demonstration, the tests and the benchmarks share: processes, machines, servers. Imports none of them."""
