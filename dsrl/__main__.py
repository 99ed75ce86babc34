"""`python -m dsrl`, and what torchrun starts."""

from dsrl.cli import main

main()
