"""What decides: recorded runs compared, two versions of the code measured in turn, and how often the decision errs."""
