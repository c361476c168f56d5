"""Two versions of the code against each other: worktrees, environments, processes."""
