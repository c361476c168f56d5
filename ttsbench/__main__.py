"""`python -m ttsbench`, for a checkout that is not installed."""

from ttsbench.cli.app import main

if __name__ == "__main__":
    main()
