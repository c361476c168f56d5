"""What one worker process measures, one module per kind of cell."""
