"""One engine for many listeners: T3 and S3Gen work on several utterances at once, and requests come when they come."""
