"""`python -m pipeline` is `bitbeam`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
