"""Context managers, one per thing measured."""
