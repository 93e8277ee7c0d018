"""Registries of algorithms and tasks by name. Modules of their packages are found automatically, and unknown names give suggestions."""

import difflib
import fnmatch
import importlib
import pkgutil
import re
from collections.abc import Iterable

from inspo_benchmark.core.errors import UserError

NAME = re.compile(r"\w[\w.:+-]{0,99}", re.ASCII)  # of algorithms and tasks; safe as part of a file name


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the most similar valid names, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}"


class Registry(dict):
    """A dictionary that is filled by the `@register` lines of the modules of a package."""

    def __init__(self, kind: str, package: str):
        super().__init__()
        self.kind, self.package = kind, package

    def register(self, name: str):
        """A decorator that adds an entry. ValueError: the name is invalid or taken."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid name for {self.kind}s: letters, digits and _ . : + - are allowed")

        def add(entry):
            if name in self:
                raise ValueError(f"two {self.kind}s are called {name!r}: {self[name]!r} and {entry!r}")
            self[name] = entry
            return entry

        return add

    def __missing__(self, name):
        raise UserError(f"no {self.kind} {name!r}; {suggest(name, self)}")

    def match(self, patterns: Iterable[str]) -> list[str]:
        """Names that match any of the globs, in the order of registration. UserError: a glob matches no name."""
        patterns = list(patterns)
        for pattern in patterns:
            if not fnmatch.filter(self, pattern):
                raise UserError(f"no {self.kind} matches {pattern!r}; {suggest(pattern.replace('*', ''), self)}")
        return [name for name in self if any(fnmatch.fnmatchcase(name, p) for p in patterns)]

    def discover(self) -> "Registry":
        """Import every public module of the package, which runs its `@register` lines."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        return self


ALGORITHMS, TASKS = Registry("algorithm", "inspo_benchmark.algorithms"), Registry("task", "inspo_benchmark.envs")
