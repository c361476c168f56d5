"""Everything that is written and read back: jobs, cells, runs, profiles, the journal. No torch."""
