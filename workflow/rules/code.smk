"""`track_code`: a rule depends on the modules that its subcommand uses."""

import ast
import hashlib
from functools import cache

import dsrl

PACKAGE = Path(dsrl.__file__).parent


def code_of(command):
    """Fingerprint of the modules that `dsrl <command>` uses; empty unless `track_code` is set.

    Computed from syntax trees, which contain no comments and no layout.
    """
    if not SETTINGS.track_code:
        return ""
    function = command.replace("-", "_")
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        for node in syntax(path).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                return fingerprint(modules_in(node))
    raise WorkflowError(f"dsrl has no command {command}")


def fingerprint(paths):
    """Fingerprint of these modules and all their imports, direct or not."""
    found, left = set(), set(paths)
    while left:
        path = left.pop()
        found.add(path)
        left |= modules_in(syntax(path)) - found
    trees = "".join(ast.dump(syntax(path)) for path in sorted(found))
    return hashlib.sha256(trees.encode()).hexdigest()


def modules_in(tree):
    """Files of this package that a syntax tree imports, at any place."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    places = [PACKAGE.parent.joinpath(*name.split(".")) for name in names]
    files = {place.with_suffix(".py") for place in places} | {p / "__init__.py" for p in places}
    return {file for file in files if file.is_relative_to(PACKAGE) and file.is_file()}


@cache
def syntax(path):
    return ast.parse(path.read_text(encoding="utf-8"))
