"""How a command ends."""

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
    ("work", "code", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (raises(UserError("no task 'x'")), 2, "error: no task 'x'\n"),
        (raises(KeyboardInterrupt()), 130, ""),
    ],
)
def test_exit_codes(work, code, said, capsys):
    assert outcome(work) == code
    assert capsys.readouterr().err == said


def test_faults_of_the_program_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        outcome(lambda: 1 // 0)


@pytest.mark.parametrize("command", [["run_benchmark.py", "--list"], ["-m", "datasets", "list"]])
def test_output_that_nobody_reads_to_its_end(command):
    read, write = os.pipe()
    os.close(read)  # as head does after its last line, only sooner
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")
