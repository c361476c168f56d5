"""Records as tables of text, for the console, Markdown and pages."""
