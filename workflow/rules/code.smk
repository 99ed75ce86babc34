"""`track_code`: a rule depends on the rooms of the package that its subcommand uses."""

import ast
import tomllib
from itertools import chain

import dsrl

PACKAGE = Path(dsrl.__file__).parent


def rooms_below(room):
    """A room and those that it may import from, by the contract that `make lint` checks."""
    pyproject = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    layers = pyproject["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = [layer.split(" | ") for layer in layers]
    place = next(number for number, layer in enumerate(rooms) if room in layer)
    return [room, *chain.from_iterable(rooms[place + 1 :])]


def code_of(room):
    """A fingerprint of the code of a room and those below it; empty unless `track_code` is set.

    It is taken from the syntax trees, which leave out comments and layout.
    """
    if not SETTINGS.track_code:
        return ""
    files = [file for name in rooms_below(room) for file in sorted((PACKAGE / name).glob("*.py"))]
    trees = (ast.dump(ast.parse(file.read_text(encoding="utf-8"))) for file in files)
    return hashlib.sha256("".join(trees).encode()).hexdigest()
