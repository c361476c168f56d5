"""Records to numbers to documents. Nothing here knows the engine."""
