"""Runs the command line: ``python -m jaxflow.cli``."""

import sys

from jaxflow.cli import program

if __name__ == "__main__":
    sys.exit(program.main())
