"""Exit codes of commands."""

import gc
import os
import subprocess
import sys

import pytest

from inspo_benchmark.core.errors import UserError, outcome
from support.project import ROOT


def raises(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code", "message"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (raises(UserError("no task 'x'")), 2, "error: no task 'x'\n"),
        (raises(KeyboardInterrupt()), 130, ""),
    ],
)
def test_exit_codes(work, code, message, capsys):
    assert outcome(work) == code
    assert capsys.readouterr().err == message


def test_other_exceptions_are_not_caught():
    with pytest.raises(ZeroDivisionError):
        outcome(lambda: 1 // 0)


@pytest.mark.parametrize("command", [["run_benchmark.py", "--list"], ["-m", "datasets", "list"]])
def test_a_closed_output_pipe_is_not_an_error(command):
    read, write = os.pipe()
    os.close(read)  # as head does after its last line
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_closed_output_pipe_hides_no_failure():
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from inspo_benchmark.core.errors import outcome; sys.exit(outcome(lambda: print('failed') or 1))"
    env = os.environ | {"PYTHONUNBUFFERED": ""}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_second_command_in_a_process_keeps_no_garbage():
    """Frozen objects are never collected, so only what is imported before the first command may be."""
    frozen = gc.get_freeze_count()
    assert outcome(lambda: None) == 0
    assert gc.get_freeze_count() == frozen
