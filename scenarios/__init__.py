"""What to run: the YAML schema, and the scenarios that ship with it."""
