"""From a scenario to records: the plan, the runner, and the worker process."""
