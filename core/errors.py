"""The exception for mistakes of the user, a check that raises it, and the command lines and exit codes of all commands."""

import argparse
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from operator import index
from typing import Any, NoReturn


class UserError(Exception):
    """A mistake of the user, in one line: what is wrong, where, and what to do. Commands print it without a traceback."""


class CommandLine(argparse.ArgumentParser):
    """A parser that answers a mistake in one line."""

    @classmethod
    def of(cls, module: str, doc: str) -> "CommandLine":
        """The parser of a module whose docstring is the help."""
        title, _, text = doc.partition("\n\n")
        form = argparse.RawDescriptionHelpFormatter
        return cls(prog=f"python -m {module}", description=title, epilog=text, formatter_class=form)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {printable(message)}; see {self.prog} --help\n")


def whole_number(name: str, x: Any, low: int) -> int:
    """x, which may be an integer of numpy, as an int. UserError: it is no integer, or smaller than `low`."""
    try:
        number = index(x)
    except TypeError:
        number = low - 1
    if number < low:
        raise UserError(f"{name}={printable(repr(x))}: write an integer of at least {low}")
    return number


def outcome(work: Callable[[], int | None]) -> int:
    """Run a command and return its exit code: what `work` returns (None: 0), 130 after Ctrl-C, or 2 after one line on stderr for a
    UserError, an error of the operating system, or too little memory. A closed pipe (`| head`) is not an error."""
    open_standard_streams()
    if not gc.isenabled():  # see core.startup; of a later command in the same process the collector frees what it leaves
        gc.enable()
        gc.freeze()  # what was imported until now stays: the collector need not look at it
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():  # see core.startup
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except UserError as e:
        reason = str(e)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush does not fail
        return code
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        reason = "there is not enough memory"
    except OSError as e:
        name = str(e.filename or "")
        reason = f"{e.strerror or e}{f': {name[:200]}' if name else ''}{'...' * (len(name) > 200)}"
    print_error(f"error: {printable(reason)}")
    return 2


def print_error(line: str) -> None:
    """On stderr. Whoever reads it may have gone (`2>&1 | head`): no reason to stop."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text in one line. Control characters, which a terminal would interpret, become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def open_standard_streams() -> None:
    """Who starts a command may have closed its standard streams (`>&-`). Then files that it opens would take their numbers, and be written
    to by whatever prints; so the streams are opened on /dev/null. Errors go to whichever of stdout and stderr is open."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which takes the lowest number that is free
    left = sys.stdout or sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    sys.stdout, sys.stderr = sys.stdout or open(os.devnull, "w"), sys.stderr or left  # noqa: SIM115
