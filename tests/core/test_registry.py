"""Registries: a file in the folder is enough, and unknown or duplicate names give clear errors."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, MODULES, TASKS, Registry, suggest
from support.episodes import toy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package `zoo` with a public and a hidden module; they register in the registry `zoo.ANIMALS`."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "__init__.py").write_text("from inspo_benchmark.core.registry import Registry\nANIMALS = Registry('animal', 'zoo')\n")
    add(folder, "lion")
    add(folder, "_template", "unfinished")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "zoo"]:
        del sys.modules[name]


def add(folder: Path, module: str, name: str = "") -> None:
    (folder / f"{module}.py").write_text(f"from zoo import ANIMALS\n\n@ANIMALS.register('{name or module}')\nclass A:\n    pass\n")


def animals() -> Registry:
    import zoo

    return zoo.ANIMALS


def test_a_file_in_the_folder_is_found(package):
    assert list(animals().discover()) == ["lion"]  # and files that begin with an underscore are not
    add(package, "okapi")
    assert animals().discover() is animals()
    assert sorted(animals()) == ["lion", "okapi"]
    assert animals()["okapi"].__module__ == "zoo.okapi"


def test_discovering_twice_changes_nothing(package):
    once = dict(animals().discover())
    assert dict(animals().discover()) == once


def test_a_duplicate_name_is_an_error(package):
    add(package, "tiger", "lion")
    with pytest.raises(UserError, match=r"two animals are registered as 'lion', by zoo\.lion and zoo\.tiger; change one of the names"):
        animals().discover()


def test_an_invalid_name_is_an_error():
    with pytest.raises(UserError, match=r"'my lion' is not a valid name for animals: letters, digits and _ \. : \+ - are allowed"):
        Registry("animal", "zoo").register("my lion")


def test_a_module_that_registers_nothing_of_its_name_is_named(package):
    (package / "okapi.py").write_text("")
    add(package, "tiger", "lioness")
    for module in "okapi", "tiger":
        for ask in animals().discover().__getitem__, lambda name: animals().match([name]):
            with pytest.raises(UserError, match=f"; the module {module} registers none of that name; "):
                ask(module)


def test_an_entry_is_registered_under_its_own_name():
    tasks, task = Registry("task", "none"), toy(name="grid-noisy")
    with pytest.raises(UserError, match=r"^the task 'grid-noisy' is registered as 'gridx-noisy'; give it the same name in both places$"):
        tasks.register("gridx-noisy")(task)
    assert tasks.register("grid-noisy")(task) is task
    assert list(tasks) == ["grid-noisy"]


def test_a_broken_file_is_an_error(package):
    (package / "broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(
        UserError, match=r"zoo\.broken cannot be imported: ModuleNotFoundError: .*nothing_of_that_name.* \(broken\.py, line 1\)"
    ):
        animals().discover()
    (package / "broken.py").write_text("x = (\n")
    with pytest.raises(UserError, match=r"zoo\.broken cannot be imported: SyntaxError: .*\(broken\.py, line 1\)"):
        animals().discover()


@pytest.fixture
def colors():
    r = Registry("color", "none")
    for name in ("red", "green-light", "green-dark", "blue"):
        assert r.register(name)(name.upper()) == name.upper()  # a decorator returns what it decorates
    return r


def test_a_typo_suggests(colors):
    with pytest.raises(UserError, match=r"^no color 'rad'; did you mean red\?$"):
        colors["rad"]
    with pytest.raises(UserError, match=r"^no color 'xyz'; there are: blue, green-dark, green-light, red$"):
        colors["xyz"]
    with pytest.raises(UserError, match=r"^no color 'RAD'; did you mean red\?$"):
        colors["RAD"]
    assert suggest("a", []) == "there are: none"


def test_names_that_begin_alike_come_first():
    tasks = ["3m-mixed", "3m-medium", "3m-medium_replay"]
    assert suggest("3m-med", tasks) == "did you mean 3m-medium?"
    assert suggest("3M-medium_r", tasks) == "did you mean 3m-medium_replay?"
    assert suggest("3m-medium", ["3m", "3s5z", "MMM2"]) == "did you mean 3m?"
    assert suggest("", ["a", "b"]) == "there are: a, b"


def test_of_many_names_an_error_lists_only_the_most_similar():
    assert suggest("xyz", [f"task-{k}" for k in range(300)] + ["y"]) == "the most similar of 301 names is y"
    assert suggest("TASK-1", [f"task-{k}" for k in range(300)]) == "did you mean task-1?"


def test_case_and_the_part_before_the_dash_are_understood(colors):
    assert colors.match(["RED", "GREEN-D*"]) == ["red", "green-dark"]
    assert colors.match(["green"]) == colors.match(["Green"]) == ["green-light", "green-dark"]
    colors.register("Red")("RED")
    assert colors.match(["Red"]) == ["Red"]  # the case matters where it tells names apart


def test_globs(colors):
    assert colors.match(["green-*"]) == ["green-light", "green-dark"]
    assert colors.match(["blue", "*e*"]) == ["red", "green-light", "green-dark", "blue"]  # in the order of registration, each once
    assert colors.match(["*"]) == list(colors)
    assert colors.match([]) == []


def test_a_glob_that_matches_nothing_is_an_error(colors):
    with pytest.raises(UserError, match=r"^no color matches 'gren-\*'; did you mean green-"):
        colors.match(["red", "gren-*"])


@pytest.mark.parametrize(("registry", "package"), [(ALGORITHMS, "algorithms"), (TASKS, "envs")])
def test_every_public_file_registers_and_nothing_else_does(registry, package):
    registry.discover()
    files = {path.stem for path in (ROOT / package).glob("[!_]*") if path.suffix == ".py" or (path / "__init__.py").exists()}
    makers = [thing if package == "algorithms" else getattr(thing.make, "func", thing.make) for thing in registry.values()]
    assert {maker.__module__.split(".")[1] for maker in makers} == {package}
    assert {maker.__module__.split(".")[2] for maker in makers} == files


def test_tasks_are_registered_under_their_names():
    assert TASKS.discover()
    assert all(name == task.name for name, task in TASKS.items())


def test_files_of_the_user_are_imported_once_by_any_path(package, tmp_path, monkeypatch):
    own, link = tmp_path / "own", tmp_path / "link"
    own.mkdir()
    link.symlink_to(own)
    add(own, "okapi")
    monkeypatch.syspath_prepend(own)
    try:
        importlib.import_module("okapi")
        (own / "alias.py").symlink_to(own / "okapi.py")
        for path in own / ".." / "own" / "okapi.py", link / "okapi.py", own / "alias.py":
            monkeypatch.setenv(MODULES, str(path))
            assert list(animals().discover()) == ["okapi", "lion"]
    finally:
        sys.modules.pop("okapi", None)


def test_files_of_the_user_are_imported_once(package, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    add(own, "okapi")
    add(own, "zebra")
    monkeypatch.setenv(MODULES, os.pathsep.join([str(own / "okapi.py"), str(own / "zebra.py")]))
    try:
        assert list(animals().discover()) == ["lion", "okapi", "zebra"]
        assert list(animals().discover()) == ["lion", "okapi", "zebra"]
    finally:
        for name in ("okapi", "zebra"):
            sys.modules.pop(name, None)
    (own / "notes.txt").write_text("text")
    (own / "json.py").write_text("")
    for name, said in ("nowhere.py", "no file .*nowhere.py"), ("notes.txt", "no Python file"), ("json.py", "the module json of Python"):
        monkeypatch.setenv(MODULES, str(own / name))
        with pytest.raises(UserError, match=f"{MODULES}: .*{said}"):
            animals().discover()
