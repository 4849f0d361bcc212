"""``python -m jaxflow``: the command line, where ``jaxflow`` is not on the path."""

import sys

from jaxflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
