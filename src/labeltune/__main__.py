"""`python -m labeltune` is the command `labeltune`."""

from labeltune.cli import main

main()
