"""`python -m target`: the command line."""

from target.cli import main

main()
