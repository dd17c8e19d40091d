"""Trees over columns of states: partitions of a table that are looked up layer by layer."""
