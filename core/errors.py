"""The exception for mistakes of the user, and the exit codes of all commands."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake of the user, in one line: what is wrong, where, and what to do. Commands print it without a traceback."""


def outcome(work: Callable[[], int | None]) -> int:
    """Run a command and return its exit code: what `work` returns (None: 0), 2 for a UserError, which is printed on stderr, 130 for
    Ctrl-C. A closed pipe (`| head`) is not an error."""
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush does not fail
        return 0
    except KeyboardInterrupt:
        return 130
