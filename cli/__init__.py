"""The command line: one short function per command, and everything that draws on a terminal."""
