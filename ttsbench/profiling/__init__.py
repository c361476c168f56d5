"""From what PyTorch's profiler recorded to a `profiles.Profile`: everything but collecting is pure and needs no torch."""
