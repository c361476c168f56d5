"""From what PyTorch's profiler recorded to a `profiles.Profile`: all but collecting is pure and needs no torch."""
