"""Names -> things. A file in the folder is enough to be found; a name that exists twice or not at all explains itself."""

import difflib
import fnmatch
import importlib
import pkgutil
import re
from collections.abc import Iterable

from inspo_benchmark.core.errors import UserError

NAME = re.compile(r"\w[\w.:+-]{0,99}", re.ASCII)  # of everything that has one; such a name is also a file's, and leads out of no folder


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest valid names, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}"


class Registry(dict):
    """A dictionary of what one package offers, filled by the `@register` lines of its modules."""

    def __init__(self, kind: str, package: str):
        super().__init__()
        self.kind, self.package = kind, package

    def register(self, name: str):
        """Decorator (or call) that adds a thing under `name`; a second thing of that name, or a name unlike NAME, raises ValueError."""

        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for {self.kind}s: letters, digits and _ . : + - are allowed")

        def add(thing):
            if name in self:
                raise ValueError(f"two {self.kind}s are called {name!r}: {self[name]!r} and {thing!r}")
            self[name] = thing
            return thing

        return add

    def __missing__(self, name):
        raise UserError(f"no {self.kind} {name!r}; {suggest(name, self)}")

    def match(self, patterns: Iterable[str]) -> list[str]:
        """Names that fit any of the globs, in registration order. A pattern that fits nothing raises UserError."""
        patterns = list(patterns)
        for pattern in patterns:
            if not fnmatch.filter(self, pattern):
                raise UserError(f"no {self.kind} matches {pattern!r}; {suggest(pattern.replace('*', ''), self)}")
        return [name for name in self if any(fnmatch.fnmatchcase(name, p) for p in patterns)]

    def discover(self) -> "Registry":
        """Import every public module of the package, so that their `@register` lines run."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        return self


ALGORITHMS, TASKS = Registry("algorithm", "inspo_benchmark.algorithms"), Registry("task", "inspo_benchmark.envs")
