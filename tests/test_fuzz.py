"""Fuzzers: whatever files hold, a command works or says in one line why not. It takes neither minutes nor gigabytes, and reads and writes
nothing outside. `make test-fuzz` runs them; FUZZ_CASES is the number of cases of each (default: 2,000)."""

import gc
import hashlib
import io
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from inspo_benchmark import run_benchmark
from inspo_benchmark.core import tensor_file
from inspo_benchmark.core.atomic_io import CHECKSUM_SIZE
from inspo_benchmark.core.errors import outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets import format
from inspo_benchmark.datasets.__main__ import main as datasets
from inspo_benchmark.datasets.catalog import fetch, status
from inspo_benchmark.datasets.format import load, save
from inspo_benchmark.datasets.layouts import LAYOUTS
from inspo_benchmark.learning import saved_policy
from inspo_benchmark.learning.train import Training
from inspo_benchmark.plots import export, figures, report, tables
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Outcome
from support import mutations, recordings, results
from support.episodes import episodes, toy

pytestmark = pytest.mark.fuzz
ALGORITHMS.discover(), TASKS.discover(), LAYOUTS.discover()
fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", "2000")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],  # a failure is shown as it was found: making it smaller takes minutes
)
MAX_SECONDS = 600  # of one case, which takes a fraction of a second: it waits for a pipe, or never ends
MAX_GROWTH = 400 << 20  # bytes of memory, over all cases


class Hangs(BaseException):
    """Not an Exception, so that nothing but the test catches it."""


@contextmanager
def in_time() -> Iterator[None]:
    def hangs(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(MAX_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def bounded_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 30), limits[1]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    gc.collect()
    gc.freeze()  # collections after each case need not look at what was there before
    yield
    gc.unfreeze()
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before < MAX_GROWTH


def outcome_of(command: Callable[[], int], *codes: int) -> str:
    """Run a command; "" if it works, else its line on stderr. `codes`: exit codes other than 0 and 2, with lines on stdout."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err, in_time():
        code = command()
    assert all(line.isprintable() for line in out.getvalue().split("\n")), out.getvalue()
    said = err.getvalue()
    if code == 2:
        assert (said[:7], said.count("\n"), said[:-1].isprintable(), len(said) < 2000) == ("error: ", 1, True, True), said
        assert "not enough memory" not in said
        return said
    assert (code in (0, *codes), said) == (True, "")
    return f"exit code {code}" if code else ""


# --- results folders

SWEEP = ["--algo", "bc", "inspo", "--env", "xor-ab", "--set", "num_updates=1000"]
COMMANDS = {
    "status": lambda out: run_benchmark.main(["--status", "--out", str(out)]),
    "clean": lambda out: run_benchmark.main(["--clean", "--dry-run", "--out", str(out)]),
    "dry run": lambda out: run_benchmark.main(["--dry-run", "--algo", "bc", "--env", "xor-ab", "--out", str(out)]),
    "sweep": lambda out: run_benchmark.main([*SWEEP, "--seeds", "2", "--out", str(out)]),
    "tables": lambda out: tables.main(["--draft", "--out", str(out)]),
    "report": lambda out: report.main(["--out", str(out)]),
    "marl-eval": lambda out: export.main(["marl-eval", str(out / "marl.json"), "--out", str(out)]),
}


@pytest.fixture(scope="module")
def sound_results(tmp_path_factory) -> dict[str, bytes]:
    """The files of two results of SWEEP, one of which has the hash of its CSV, and of a failed experiment."""
    out = tmp_path_factory.mktemp("results")
    about = dict(code={"revision": "0" * 40, "dirty": False}, wall_seconds=1.0, preset="", versions={"torch": "2"}, machine={"cores": 2})
    for x in plan(["bc", "inspo"], ["xor-ab"], (0, 1), ["num_updates=1000"], out):
        path = results.write(out, x.algo, x.task, seeds=range(2), points=2, key=x.key, group=x.group, **about)
    json_path = path.with_suffix(".json")
    json_path.write_text(json_path.read_text()[:-1] + f', "csv_sha256": "{hashlib.sha256(path.read_bytes()).hexdigest()}"}}')
    record = out / "unfinished" / "bc" / "xor-ab-1.json"
    log = out / "logs" / "bc" / "xor-ab-1.log"
    for path in (record, log):
        path.parent.mkdir(parents=True)
    record.write_text(json_path.read_text()[:-1] + ', "reason": "broken", "again": true, "progress": {"update": 1, "return": 0.5}}')
    log.write_text("a line\n")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_results_folders(tmp_path, monkeypatch, sound_results):
    outside, drawn = tmp_path / "outside", figures.all_figures
    outside.write_text("a secret")
    counts: Counter = Counter()
    monkeypatch.setattr(run_benchmark, "run_pool", lambda *_: Outcome({}, []))  # what is missing is not trained

    @fuzz
    @given(st.data())
    def damaged(data):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)  # of a case that ended while it was drawn
        for name, content in sound_results.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
        for name in data.draw(st.lists(st.sampled_from(sorted(sound_results)), min_size=1, max_size=3, unique=True)):
            path = out / name
            mutations.changed(data, path, outside)
            if data.draw(st.integers(0, 20)) == 0 and path.is_file():
                path.rename(path.with_name(data.draw(st.sampled_from(["x\x1b[31m.json", "-x.csv", "\udcff.csv", "a b.json", ".json"]))))
        monkeypatch.setattr(figures, "all_figures", drawn if data.draw(st.integers(0, 19)) == 0 else lambda *_, **__: [])  # slow
        for name, command in COMMANDS.items():
            counts[name, bool(outcome_of(lambda command=command: command(out)))] += 1
        gc.collect()  # figures hold cycles, which are looked for rarely; they would count as growth
        assert not any(b"a secret" in path.read_bytes() for path in out.rglob("*") if path.is_file() and not path.is_symlink())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "outside"]
        assert outside.read_text() == "a secret"
        shutil.rmtree(out)

    damaged()
    print(dict(counts))


# --- recordings in others' layouts


def _pymarl(suffix: str) -> Callable[[Path, dict], Path]:
    return lambda folder, change: recordings.write(folder, recordings.recording(limit=8, episodes=4), suffix)


def _madt(zipped: bool, folder: Path) -> Path:
    source = recordings.madt(folder, lengths=(3, 2))
    for path in source.iterdir():
        x = tensor_file.read(path.read_bytes())
        torch.save(x, path, _use_new_zipfile_serialization=zipped)
    return source


RECORDINGS = {
    "pymarl .npz": ("pymarl", _pymarl(".npz")),
    "pymarl .h5": ("pymarl", _pymarl(".h5")),
    "pymarl .npy": ("pymarl", _pymarl("")),
    "omiga": ("omiga", lambda folder, change: recordings.omiga(folder / "x.hdf5")),
    "omar": ("omar", lambda folder, change: recordings.omar(folder)),
    "flat": ("flat", lambda folder, change: recordings.flat(folder)),
    "minari": ("minari", lambda folder, change: recordings.minari(folder / "x")),
    "madt": ("madt", lambda folder, change: _madt(True, folder)),
    "madt, old files": ("madt", lambda folder, change: _madt(False, folder)),
    "vault": ("vault", lambda folder, change: recordings.vault(folder, **change)),
}
VAULT = ["observations", "actions", "rewards", "terminals", "truncations", "infos.state", "infos.legals"]


@pytest.mark.parametrize("what", RECORDINGS)
def test_recordings(tmp_path, what):
    layout, make = RECORDINGS[what]
    outside, folder, target = tmp_path / "outside", tmp_path / "in", tmp_path / "out.h5"
    outside.write_text("a secret")
    folder.mkdir()
    source = make(folder, {})
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sound = {path: path.read_bytes() for path in paths}
    counts: Counter = Counter()

    @fuzz
    @given(st.data())
    def damaged(data):
        shutil.rmtree(folder)
        folder.mkdir()
        if what == "vault" and data.draw(st.integers(0, 4)) == 0:  # the arrays of a vault are not files of their own
            make(folder, {data.draw(st.sampled_from(VAULT)): mutations.odd_array(data, smallest=1)})  # zarr has no empty chunks
        else:
            for path, content in sound.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=2, unique=True)):
                mutations.changed(data, path, outside)
        said = outcome_of(lambda: datasets(["convert", layout, str(source), str(target)]))
        counts[bool(said)] += 1
        assert target.exists() == (not said)
        if not said:
            assert outcome_of(lambda: datasets(["info", str(target)])) == ""
            target.unlink()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "outside"]

    damaged()
    print(what, dict(counts))


# --- our own files, by someone who knows how to write their checksums


def test_datasets(tmp_path):
    path = tmp_path / "x.h5"
    save(episodes(toy()), path)
    sound, counts = path.read_bytes(), Counter()

    @fuzz
    @given(st.data())
    def damaged(data):
        path.write_bytes(sound)
        mutations.changed(data, path, tmp_path / "outside")
        if path.is_file() and data.draw(st.integers(0, 4)):
            content = path.read_bytes()[format.SEAL :]
            path.write_bytes(format._seal(hashlib.sha256(content)) + content)
        for words in (["info"], ["validate"], ["export", "pymarl"], ["export", "minari"]):
            target = [str(tmp_path / "exported")] if len(words) > 1 else []
            counts[words[-1], bool(outcome_of(lambda words=words, target=target: datasets([*words, str(path), *target]), 1))] += 1
            shutil.rmtree(tmp_path / "exported", ignore_errors=True)
            (tmp_path / "exported").unlink(missing_ok=True)
        assert outcome_of(lambda: outcome(lambda: print(status(replace(toy(), name="x"), tmp_path)))) == ""
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    damaged()
    print(dict(counts))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", ["policies", "checkpoint"])
def test_files_of_tensors(tmp_path, what, zipped):
    """As torch writes them now, and as it did before version 1.6."""
    task = TASKS["xor-ab"]
    algorithm = ALGORITHMS["bc"](ALGORITHMS["bc"].Config(hidden_dim=4, batch_size=4, num_updates=20), task.spec)
    training = Training(algorithm, task, load(fetch(task)), (0, 1), "cpu", tmp_path / "none", "key")
    path, counts = tmp_path / f"x.{what}", Counter()
    if what == "policies":
        saved_policy.save("bc", "xor-ab", algorithm, (0, 1), training.current.state, training.normalizer, path)
    else:
        training.current.save(path)
    content = io.BytesIO()
    torch.save(tensor_file.read(path.read_bytes()[CHECKSUM_SIZE:]), content, _use_new_zipfile_serialization=zipped)
    sound = content.getvalue()

    def read() -> int:
        return outcome(lambda: print(saved_policy.load(path).seeds if what == "policies" else training.current.load(path, "cpu").key))

    @fuzz
    @given(st.data())
    def damaged(data):
        kind = data.draw(st.sampled_from(["record", "bytes", "checksum"] if zipped else ["bytes", "checksum"]))
        changed = mutations.changed_archive(data, sound) if kind == "record" else mutations.changed_bytes(data, sound)
        checksum = b"x" * CHECKSUM_SIZE if kind == "checksum" else hashlib.sha256(changed).digest()
        path.write_bytes(checksum + changed)
        counts[bool(outcome_of(read))] += 1

    damaged()
    print(what, dict(counts))
