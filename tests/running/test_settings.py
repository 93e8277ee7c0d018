"""Which table of settings wins, and that the printed source of a value is where it comes from."""

import dataclasses

import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.envs.smac.maps import MAPS, SCENARIOS
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.running.presets import BENCHMARK
from inspo_benchmark.running.settings import settings, settings_summary, settings_table, settings_with_sources
from inspo_benchmark.running.suites import matches, suites

ALGORITHMS.discover(), TASKS.discover()
OWN = [name for name in sorted(ALGORITHMS) if ALGORITHMS[name].__module__.startswith("inspo_benchmark")]  # and not those of other tests


@pytest.fixture
def mine(monkeypatch):
    """A method whose three tables name the same fields on 3m-medium, and PAPER nothing on 8m-medium."""

    class Mine:
        @dataclasses.dataclass(frozen=True)
        class Config(Valued):
            alpha: float = 1.0
            switch: bool = False

        PAPER = {"3m-*": dict(alpha=2.0, batch_size=7, num_updates=70, gamma=0.5)}
        OFFICIAL = {"*": dict(switch=True)}
        TUNED = {"smac": dict(alpha=3.0), "3m-medium": dict(num_updates=90, lr=0.25)}

    monkeypatch.setitem(ALGORITHMS, "mine", Mine)
    return Mine


def test_a_methods_own_table_wins_over_the_shared_settings(mine):
    assert BENCHMARK["smac"]["num_updates"] != 90
    found = settings_with_sources("mine", "3m-medium", {})
    assert found["num_updates"] == (90, "TUNED")
    assert found["lr"] == (0.25, "TUNED")
    assert found["alpha"] == (3.0, "TUNED")
    assert found["batch_size"] == (BENCHMARK["3m-*"]["batch_size"], "benchmark")
    assert found["hidden_dim"] == (BENCHMARK["smac"]["hidden_dim"], "benchmark")
    assert found["gamma"] == (Valued.gamma, "default")  # PAPER has no effect without --paper
    assert found["switch"] == (False, "default")
    assert "critic_lr" not in found  # a shared setting that the method lacks


def test_paper_is_what_was_published(mine):
    found = settings_with_sources("mine", "3m-medium", {}, paper=True)
    assert found["num_updates"] == (70, "PAPER")
    assert found["batch_size"] == (7, "PAPER")
    assert found["alpha"] == (2.0, "PAPER")
    assert found["lr"] == (Valued.lr, "default")
    assert found["switch"] == (True, "OFFICIAL")
    assert {source for _, source in found.values()} == {"default", "PAPER", "OFFICIAL"}


def test_paper_changes_nothing_where_nothing_was_published(mine):
    assert settings_with_sources("mine", "8m-medium", {}, paper=True) == settings_with_sources("mine", "8m-medium", {})
    assert settings_table("mine", "8m-medium", [], paper=True).splitlines()[0] == (
        "mine on 8m-medium (PAPER has no row: --paper changes nothing)"
    )
    assert settings_table("mine", "3m-medium", [], paper=True).splitlines()[0] == "mine on 3m-medium"


@pytest.mark.parametrize("algo", OWN)
def test_a_method_has_one_setting_for_a_suite(algo):
    """Coefficients are searched on some tasks of a suite and hold for all of them."""
    differ = {"smac": {"batch_size"}, "mujoco": {"alpha"} if algo in ("cfcql", "omar") else set()}
    for suite, names in differ.items():
        found = [dataclasses.asdict(settings(algo, task, {})) for task in TASKS if matches(suite, task)]
        assert len(found) > 50
        assert {name for name in found[0] if len({config[name] for config in found}) > 1} <= names


@pytest.mark.parametrize("paper", [False, True])
def test_set_wins_over_all(mine, paper):
    found = settings_with_sources("mine", "3m-medium", {"num_updates": 5, "switch": False}, paper)
    assert (found["num_updates"], found["switch"]) == ((5, "--set"), (False, "--set"))


@pytest.mark.parametrize("algo", list(ALGORITHMS.discover()))
def test_every_method_has_recurrent_policies_in_the_variant_for_them(algo):
    plain, variant = (vars(settings(algo, "3m-medium", {}, preset=preset)) for preset in ("", "recurrent"))
    changed = dict(network="gru", seq_len=20, batch_size=16)
    assert plain["network"] == "mlp"
    assert variant == plain | changed
    assert settings_with_sources(algo, "3m-medium", {}, preset="recurrent")["network"] == ("gru", "preset")


def test_a_preset_takes_its_share_of_the_updates(mine):
    assert settings_with_sources("mine", "3m-medium", {}, preset="quick")["num_updates"] == (18, "preset")
    assert settings_with_sources("mine", "3m-medium", {"num_updates": 5}, preset="quick")["num_updates"] == (5, "--set")


@pytest.mark.parametrize("table", ["PAPER", "TUNED"])
def test_a_table_that_names_an_unknown_field_is_one_line(mine, monkeypatch, table):
    monkeypatch.setattr(mine, table, {"3m-*": dict(alhpa=1.0)})
    with pytest.raises(UserError, match=rf"mine: {table} names 'alhpa', .*did you mean alpha"):
        settings("mine", "3m-medium", {}, paper=table == "PAPER")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (dict(alpha="a"), "alpha='a': must be a number"),
        (dict(num_updates=2.5), "num_updates=2.5: must be a whole number"),
        (dict(num_updates=True), "num_updates=True: must be a whole number"),
        (dict(switch=1), "switch=1: must be true or false"),
        (dict(network=None), "network=None: must be one of mlp, gru"),
        (dict(network="gru"), "network=gru learns from sequences: set seq_len above 1"),
        (dict(burn_in=2, seq_len=5), "burn_in warms up a recurrent state: it needs network=gru"),
    ],
)
def test_a_table_with_an_unusable_value_is_one_line(mine, monkeypatch, value, said):
    monkeypatch.setattr(mine, "TUNED", {"3m-*": value})
    with pytest.raises(UserError) as e:
        settings("mine", "3m-medium", {})
    assert str(e.value).startswith(said)


def test_a_config_that_is_no_dataclass_of_typed_fields_says_what_to_write(mine, monkeypatch):
    class Config(Valued):
        gain: float = 1.0
        rate = 2.0

    monkeypatch.setattr(mine, "Config", Config)
    with pytest.raises(UserError, match=r"no field 'gain'; its Config has to be decorated with @dataclass\(frozen=True\)"):
        Config.parse(["gain=3"], "mine")
    with pytest.raises(UserError, match=r"no field 'rate'; its Config has to state the type: rate: float = 2\.0"):
        Config.parse(["rate=3"], "mine")
    monkeypatch.setattr(mine, "PAPER", {})
    monkeypatch.setattr(mine, "TUNED", {"3m-*": dict(gain=3.0)})
    with pytest.raises(UserError, match=r"TUNED names 'gain', which is no field of its Config; its Config has to be decorated"):
        settings("mine", "3m-medium", {})

    @dataclasses.dataclass(frozen=True)
    class Listed(Valued):
        sizes: tuple[int, ...] = (1, 2)

    with pytest.raises(UserError, match=r"field sizes of .*Listed is of type .*; write int, float, bool or a Literal of names"):
        Listed.parse(["sizes=3"], "mine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = " + "[" * 5000, "cannot be read: "),
        ("\0", "cannot be read: "),
        ("[mime]\nlr = 1", "'mime' is no table of a method; did you mean mine"),
        ("mine = 5", "'mine' is no table of a method"),
        ("[mine]\nalhpa = 1", "mine.toml: mine: task names 'alhpa'"),
        ("[mine]\nlr = [1]", "mine.toml: [mine] lr=[1]: must be a number"),
        ("[mine]\nlr = nan", "not a finite number"),
        ("[mine]\nlr = inf", "not a finite number"),
        ("[mine]\nlr = 1e301", "must lie between -1e+300 and 1e+300"),
        ("[mine]\nhidden_dim = 10000000000000000", "must lie between -1e+15 and 1e+15"),
        ("[mine]\nnum_updates = 1e400", "must be a whole number"),
        ("[mine]\nnetwork = 'gpu'", "must be one of mlp, gru"),
    ],
    ids=lambda x: x[:20],
)
def test_a_tasks_own_table_that_is_wrong_is_one_line(mine, monkeypatch, tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setitem(TASKS, "3m-medium", dataclasses.replace(TASKS["3m-medium"], settings=tmp_path / "mine.toml"))
    with pytest.raises(UserError) as e:
        settings("mine", "3m-medium", {})
    assert said in str(e.value)


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("algo", OWN)
def test_the_sources_are_those_of_the_settings(algo, paper):
    tables = {"PAPER": ALGORITHMS[algo].PAPER, "OFFICIAL": ALGORITHMS[algo].OFFICIAL, "TUNED": ALGORITHMS[algo].TUNED}
    tables["benchmark"] = BENCHMARK
    for task in TASKS:
        found = settings_with_sources(algo, task, {}, paper)
        assert {name: setting.value for name, setting in found.items()} == dataclasses.asdict(settings(algo, task, {}, paper))
        for name, (value, source) in found.items():
            if source == "default":
                assert value == getattr(ALGORITHMS[algo].Config(), name)
            else:
                assert value in [row[name] for key, row in tables[source].items() if matches(key, task) and name in row]


def test_tasks_with_equal_settings_share_a_block(mine):
    text = settings_summary([("mine", "8m-medium"), ("mine", "8m-expert"), ("mine", "3m-medium")], ["lr=0.125"])
    titles = [line for line in text.splitlines() if not line.startswith(" ")]
    assert titles == ["mine on 8m-medium, 8m-expert", "mine on 3m-medium"]
    assert text.count("  --set      lr=0.125") == 2


def test_suites_are_the_families_of_tasks():
    assert {glob.removesuffix("-*") for glob in suites()["smac"]} == set(MAPS | SCENARIOS)
    for suite, families in (("smac", {"smac", "sc2"}), ("mujoco", {"mamujoco"})):
        assert {task for task in TASKS if matches(suite, task)} == {name for name, task in TASKS.items() if task.family in families}
    assert not set(suites()) & set(TASKS)
