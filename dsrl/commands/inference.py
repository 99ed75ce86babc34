"""Commands that apply a network: test, predict, export."""

from typing import Any


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
