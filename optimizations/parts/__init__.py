"""What slots put into a pipeline and share: loops, passes over upstream's modules, captured and compiled work."""
