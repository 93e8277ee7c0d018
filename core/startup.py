"""Imported first by run_benchmark.py and the commands in datasets/ and plots/ whose imports take seconds: Ctrl-C ends these without a
traceback, and Python does not look for garbage among them. `core.errors.outcome` undoes both. Nothing happens where a command's module is
imported by another program."""

import gc
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (ROOT, ROOT / "datasets", ROOT / "plots")

if Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve().parent in COMMANDS:
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
