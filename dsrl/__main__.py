"""`python -m dsrl`, and what torchrun starts."""

from dsrl.cli.main import main

main()
