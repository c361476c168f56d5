"""What is compared with what, and how a difference is decided. Pure: records in, verdicts out."""
