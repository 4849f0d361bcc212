"""The command line: ``jaxflow models | flow | classify | generate | …``.

What is asked for is checked before it is computed. Bad input ends with one line on
the standard error and exit code 2. JAX is imported by the commands that need it, so
that help is quick. Each command has a file of its own, with its options beside it.
"""

from jaxflow.cli.program import main as main
