"""ttsbench: which optimizations make Chatterbox faster on this machine, by how much, and at what cost."""

__version__ = "0.1.0"
