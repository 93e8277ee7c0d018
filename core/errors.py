"""The one exception whose message is meant for the person at the keyboard, and how a command line ends."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input: one line saying what is wrong, where, and what to do. The command line prints it without a traceback."""


def outcome(work: Callable[[], int | None]) -> int:
    """The exit code of a command: what `work` returns (None: 0), 2 with one line on stderr for a mistake in the input, 130 when it is
    stopped. Whoever reads its output may stop reading (`| head`)."""
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain at its end
        return 0
    except KeyboardInterrupt:
        return 130
