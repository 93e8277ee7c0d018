"""Imported first by every command, before the imports that take seconds: Ctrl-C ends them without a traceback, and Python does not look for
garbage among them. `core.errors.outcome` takes both back. Nothing happens where a command's module is imported by another program."""

import gc
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (ROOT, *(ROOT / folder for folder in ("datasets", "plots", "tools", "tools/behavior")))

if Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve().parent in COMMANDS:
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
