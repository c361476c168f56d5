"""Chatterbox as named stages: its checkpoint, its voice, its pipeline, and what holds its length and seeds."""
