"""Registries of algorithms and tasks by name. Modules of their packages are found automatically, and unknown names give suggestions.

The environment variable INSPO_BENCHMARK_MODULES names further files (with `:` between them), which register what they hold in the same way.
"""

import difflib
import fnmatch
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from inspo_benchmark.core.errors import UserError

NAME = re.compile(r"\w[\w.:+-]{0,99}", re.ASCII)  # of algorithms and tasks; safe as part of a file name
MODULES = "INSPO_BENCHMARK_MODULES"
MANY = 20  # names that an error message does not list


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the valid name that is most similar, in any case of letters, and first of all one that begins like this
    one, or the scenario of a task; if none is similar, all of a few names."""
    spelled = {known_name.casefold(): known_name for known_name in sorted(known)}
    given = name.casefold()
    scenario = given.rpartition("-")[0]
    longer = sorted((x for x in spelled if given and x.startswith(given)), key=len)
    if close := longer or [scenario] * (scenario in spelled) or difflib.get_close_matches(given, spelled, n=1):
        return f"did you mean {spelled[close[0]]}?"
    if len(spelled) <= MANY:
        return f"there are: {', '.join(spelled.values()) or 'none'}"
    nearest = difflib.get_close_matches(given, spelled, n=1, cutoff=0.0)
    return f"the most similar of {len(spelled)} names is {spelled[nearest[0]]}"


def match(patterns: Iterable[str], names: Collection[str], kind: str, hint: Callable[[str], str] | None = None) -> list[str]:
    """Those of the names that match any of the globs, in the order of the names.

    A glob that matches no name as it is spelled may differ in the case of letters, or be the part of names before their dash: "3M"
    matches 3m-medium and 3m-expert. UserError: a glob matches no name; it ends with `hint`, by default what `suggest` says.
    """

    def matching(pattern: str) -> list[str]:
        if exact := [name for name in names if fnmatch.fnmatchcase(name, pattern)]:
            return exact
        for glob in (pattern.casefold(), f"{pattern.casefold()}-*"):
            if similar := [name for name in names if fnmatch.fnmatchcase(name.casefold(), glob)]:
                return similar
        plain = pattern.replace("*", "")
        raise UserError(f"no {kind} matches {pattern!r}; {hint(plain) if hint else suggest(plain, names)}")

    found = {name for pattern in patterns for name in matching(pattern)}
    return [name for name in names if name in found]


class Registry(dict):
    """A dictionary that is filled by the `@register` lines of the modules of a package."""

    def __init__(self, kind: str, package: str):
        super().__init__()
        self.kind, self.package = kind, package

    def register(self, name: str):
        """A decorator that adds an entry. UserError: the name is invalid or taken, or the entry itself has another name."""
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r} is not a valid name for {self.kind}s: letters, digits and _ . : + - are allowed")

        def add(entry):
            if name in self:
                both = " and ".join(getattr(x, "__module__", repr(x)) for x in (self[name], entry))
                raise UserError(f"two {self.kind}s are registered as {name!r}, by {both}; change one of the names")
            if (own := getattr(entry, "name", name)) != name:
                raise UserError(f"the {self.kind} {own!r} is registered as {name!r}; give it the same name in both places")
            self[name] = entry
            return entry

        return add

    def __getitem__(self, name):
        if not isinstance(name, str):  # which need not be hashable, as keys have to be
            raise UserError(f"no {self.kind} {name!r}; write a name, a string")
        return super().__getitem__(name)

    def __missing__(self, name):
        raise UserError(f"no {self.kind} {name!r}; {self._suggest(name)}")

    def _suggest(self, name: str) -> str:
        """As `suggest`. A module of that name may have been left unregistered."""
        if NAME.fullmatch(name) and f"{self.package}.{name}" in sys.modules:
            return f"the module {name} registers none of that name; {suggest(name, self)}"
        return suggest(name, self)

    def match(self, patterns: Iterable[str]) -> list[str]:
        """Names that match any of the globs, in the order of registration; see `match`."""
        return match(patterns, self, self.kind, self._suggest)

    def discover(self) -> "Registry":
        """Import every public module of the package and the user's own files, which runs their `@register` lines. UserError: there is no
        such file, or one cannot be imported."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            if not module.name.startswith("_"):
                with import_errors(f"{self.package}.{module.name}"):
                    importlib.import_module(f"{self.package}.{module.name}")
        for path in own_files():
            with import_errors(str(path)):
                import_file(path)
        return self


@contextmanager
def import_errors(module: str) -> Iterator[None]:
    """What goes wrong in a module while it is imported, as a UserError with the place."""
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        place = traceback.extract_tb(e.__traceback__)[-1]
        at = "" if isinstance(e, SyntaxError) else f" ({Path(place.filename).name}, line {place.lineno})"  # a SyntaxError has its own
        raise UserError(f"{module} cannot be imported: {type(e).__name__}: {e}{at}; a file whose name begins with _ is left out") from e


def own_files() -> list[Path]:
    """The files that MODULES names."""
    return [Path(name).expanduser().absolute() for name in os.environ.get(MODULES, "").split(os.pathsep) if name]


def import_file(path: Path) -> None:
    """Import a file that lies outside the package, once, by whatever path. UserError: there is no such file, or its name is that of
    another module."""
    real = path.resolve()
    files = [Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    if any(file.name in (path.name, real.name) and file.resolve() == real for file in files):
        return
    if not path.is_file():
        raise UserError(f"{MODULES}: no file {path}")
    if path.stem in sys.modules or path.stem in sys.stdlib_module_names:
        raise UserError(f"{MODULES}: {path} would replace the module {path.stem} of Python; rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{MODULES}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


ALGORITHMS, TASKS = Registry("algorithm", "inspo_benchmark.algorithms"), Registry("task", "inspo_benchmark.envs")
