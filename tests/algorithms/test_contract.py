"""What every algorithm promises. A new baseline is covered by existing in algorithms/; nothing is listed here."""

import ast
import dataclasses
import itertools
import random
import shutil
import typing
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_map

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning import train
from inspo_benchmark.learning.algorithm import Nets
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS
from inspo_benchmark.learning.tracing import trace
from inspo_benchmark.plots.style import scenario
from inspo_benchmark.running.presets import BENCHMARK
from inspo_benchmark.running.settings import matching, settings
from inspo_benchmark.running.suites import suites
from support.toy import LENGTHS, SPACES, Lab, close, config_of, copy, masks, run_of, same

ALGORITHMS.discover()
TASKS.discover()
LOSSES = "inspo_benchmark.learning.algorithm"
FOLDER = Path(__file__).parents[2] / "algorithms"
FIELDS = [(algo, field.name) for algo, a in ALGORITHMS.items() for field in dataclasses.fields(a.Config)]

algos = pytest.mark.parametrize("algo", list(ALGORITHMS))
kinds = pytest.mark.parametrize("kind", list(SPACES))
MEMORIES = typing.get_args(typing.get_type_hints(Common)["network"])


def combined(**choices):
    """All combinations of the choices. Half of them always run: any two values of different choices meet there, if there are three choices.
    The other half is slow."""
    cases = []
    for places in itertools.product(*(range(len(values)) for values in choices.values())):
        values = [values[place] for values, place in zip(choices.values(), places)]
        name = "-".join({False: "own", True: "shared"}.get(value, value) for value in values)
        cases.append(pytest.param(*values, id=name, marks=[pytest.mark.slow] * (sum(places) % 2)))
    return pytest.mark.parametrize(list(choices), cases)


def each(test):
    """Algorithm x shared weights x memory x kind of action."""
    return algos(combined(share=[False, True], memory=MEMORIES, kind=list(SPACES))(test))


# --- seeds


@each
def test_a_packed_seed_learns_exactly_what_it_learns_alone(algo, kind, memory, share, double):
    lab = Lab(algo, kind, seeds=(3, 9), network=memory, share_params=share)
    packed, packed_logs = lab.train(lab.init(), lab.draws())
    for k, seed in enumerate(lab.seeds):
        alone, logs = lab.train(lab.algorithm.init([seed]), lab.draws(lab.for_seeds([seed])))
        close(run_of(packed, k), alone)
        close(run_of(packed_logs, k), logs)
    assert not same(run_of(packed.params, 0), run_of(packed.params, 1))


@algos
@combined(memory=MEMORIES, kind=list(SPACES))
def test_the_traced_step_is_the_plain_step(algo, kind, memory, double):
    lab = Lab(algo, kind, seeds=(3, 4), network=memory)
    for stage in lab.algorithm.stages():
        step = lab.algorithm.pack(2, stage)
        traced = train.prepare_update(step, (lab.init(), *lab.sampler.draw(0)), train.TRACE_FROM)
        assert isinstance(traced, torch.fx.GraphModule)
        close(lab.train(lab.init(), lab.draws(), traced), lab.train(lab.init(), lab.draws(), step))


@algos
@combined(memory=MEMORIES, kind=list(SPACES))
def test_the_traced_step_makes_nothing_on_the_cpu_for_another_device(algo, kind, memory):
    """A GPU would wait for it. The device `meta` takes no tensors of the CPU, but for single numbers."""
    lab = Lab(algo, kind, seeds=(3, 4), network=memory)
    example = tree_map(lambda x: x.to("meta"), (lab.init(), *lab.sampler.draw(0)))
    for stage in lab.algorithm.stages():
        with torch.no_grad():
            assert "device(type='cpu')" not in trace(lab.algorithm.pack(2, stage), *example).code


def check_compiled(algo, kind, capsys):
    lab = Lab(algo, kind, seeds=(3, 4))
    step = lab.algorithm.pack(2)
    compiled = train.prepare_update(step, (lab.init(), *lab.sampler.draw(0)), train.COMPILE_FROM)
    assert ("compilation failed" in capsys.readouterr().out) == (not any(map(shutil.which, ("c++", "g++", "clang++"))))
    close(lab.train(lab.init(), lab.draws(), compiled), lab.train(lab.init(), lab.draws(), step))


def test_the_compiled_step_is_the_plain_step(double, capsys):
    check_compiled("bc", "discrete", capsys)


@pytest.mark.slow  # minutes: every shape is compiled
@algos
@kinds
def test_every_compiled_step_is_the_plain_step(algo, kind, double, capsys):
    check_compiled(algo, kind, capsys)


# --- data


@each
def test_padding_is_not_data(algo, kind, memory, share, double):
    lab = Lab(algo, kind, network=memory, share_params=share)
    draws = lab.draws()
    padded = [(junk(batch), draw) for batch, draw in draws]
    assert not same(draws, padded)
    close(lab.train(lab.init(), draws), lab.train(lab.init(), padded))


def junk(b):
    """The batch with nonsense wherever no data are: a window of n steps owns what was earned in them and n + 1 rows of what is seen."""
    rng, n = np.random.default_rng(0), b.mask.sum(-1, keepdim=True)
    row = torch.arange(b.obs.shape[2]) > n
    step = b.mask == 0
    only_last = torch.arange(b.avail.shape[-1]) == b.avail.shape[-1] - 1
    act = torch.full_like(b.actions, b.avail.shape[-1] - 1) if b.actions.ndim == 4 else torch.as_tensor(rng.uniform(-1, 1, b.actions.shape))

    def put(where, new, old):
        return torch.where(where.reshape(*where.shape, *[1] * (old.ndim - where.ndim)), torch.as_tensor(new, dtype=old.dtype), old)

    return b._replace(
        obs=put(row, 50.0, b.obs),
        state=put(row, -50.0, b.state),
        avail=put(row, only_last, b.avail),
        actions=put(row, act, b.actions),
        rewards=put(step, 1e6, b.rewards),
        terminated=put(step, 1 - b.terminated, b.terminated),
    )


def test_junk_keeps_what_is_data(double):
    lab = Lab("bc", "discrete")
    packed, _ = lab.sampler.draw(0)
    b, j = (tree_map(lambda x: x[0], x) for x in (packed, junk(packed)))
    real = b.mask > 0
    assert 0 < real.double().mean() < 1
    for x, y in ((b.rewards, j.rewards), (b.terminated, j.terminated), *((getattr(b.now, f), getattr(j.now, f)) for f in b.now._fields)):
        assert torch.equal(x[real], y[real])
    for x, y in ((getattr(b.next, f), getattr(j.next, f)) for f in b.next._fields):  # a step leads to a row of data
        assert torch.equal(x[real], y[real])


# --- purity


def noise_state():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002


@each
@pytest.mark.parametrize("seeds", [(5,), (5, 6)], ids=["alone", "packed"])
def test_an_update_is_a_function_of_its_inputs(algo, kind, memory, share, seeds, double):
    lab = Lab(algo, kind, seeds, network=memory, share_params=share)
    before = noise_state()
    s, draws = lab.init(), lab.draws()
    given = copy((s, draws))
    once = lab.train(s, draws)
    assert same(given, (s, draws)), "an input was changed"
    assert noise_state() == before, "a global generator was used"
    assert same(once, lab.train(s, draws)), "the same inputs gave another output"
    assert same(once, lab.train(lab.init(), lab.draws(lab.for_seeds(seeds))))


@algos
@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_update_keeps_the_states_shape_and_counts_its_calls(algo, kind, dtype, double):
    torch.set_default_dtype(dtype)  # `double` puts it back
    lab = Lab(algo, kind, seeds=(0, 1))
    s, logs = lab.train(first := lab.init(), lab.draws())
    for a, b in zip(*map(lambda tree: tree_flatten(tree)[0], (first, s)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert b.dtype in (dtype, torch.int64)
    assert s.step.tolist() == [lab.calls] * 2
    for log in logs:
        assert log
        assert all(x.shape == (2,) and x.isfinite().all() for x in log.values())


# --- acting


def policy(lab: Lab, scale: float = 1.0) -> Nets:
    return Nets(lab.algorithm.modules, tree_map(lambda x: scale * x[0], lab.init().params))


def senses(lab: Lab, num_envs: int):
    """Random observations, masks, memories and uniforms; the outermost uniforms that the sampler gives are among them."""
    rng, s = np.random.default_rng(0), lab.task.spec
    obs, avail = rng.normal(0, 3, (num_envs, s.num_agents, s.obs_dim)), masks(rng, num_envs, s.num_agents, s.space.avail_dim)
    u = rng.random((num_envs, s.num_agents, *lab.algorithm.acting_noise_shape))
    u[: num_envs // 4], u[num_envs // 4 : num_envs // 2] = UNIFORM_BOUNDS
    memory = lab.algorithm.init_hidden(num_envs)
    dtype = torch.get_default_dtype()
    obs, u = torch.as_tensor(obs, dtype=dtype), torch.as_tensor(u, dtype=dtype)
    return obs, torch.as_tensor(avail), torch.as_tensor(rng.uniform(-1, 1, memory.shape), dtype=dtype), u


@each
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["even", "sharp"])
def test_no_illegal_action_is_taken(algo, kind, memory, share, scale):  # in float32, as in a run
    lab = Lab(algo, kind, network=memory, share_params=share)
    obs, avail, h, u = senses(lab, 4000)
    before = noise_state()
    for _ in range(3):
        greedy, after = lab.algorithm.act(policy(lab, scale), obs, avail, h)
        sampled, _ = lab.algorithm.act_sampled(policy(lab, scale), obs, avail, h, u)
        for a in (greedy, sampled):
            if kind == "discrete":
                assert a.shape == obs.shape[:2]
                assert avail.gather(-1, a[..., None]).all()
            else:
                assert a.shape == (*obs.shape[:2], *lab.task.spec.space.noise_shape)
                assert (a.abs() <= 1).all()
        assert after.shape == h.shape
        h = after
    if kind == "discrete" and scale == 1:  # neither is a constant
        assert all(len(a.unique()) == lab.task.spec.space.n for a in (greedy, sampled))
    if scale > 1:  # a new policy that has its noise as an input may not depend on it enough
        assert not torch.equal(greedy, sampled)
    assert noise_state() == before


@each
def test_acting_is_decentralised(algo, kind, memory, share, double):
    lab = Lab(algo, kind, network=memory, share_params=share)
    if lab.algorithm.execution != "decentralized":
        pytest.skip("agents know actions of others: the method's own tests say whose")
    obs, _, h, _ = senses(lab, 50)
    action_params, after = lab.algorithm.action_params(policy(lab), obs, h)
    others = torch.arange(3) != 1
    moved, moved_after = lab.algorithm.action_params(policy(lab), obs + others[:, None], h + others[:, None])
    close((moved[:, 1], moved_after[:, 1]), (action_params[:, 1], after[:, 1]))
    assert ((moved - action_params).abs().amax((0, 2)) > 0).tolist() == [True, False, True]
    with_memory, _ = lab.algorithm.action_params(policy(lab), obs, h + 1)
    assert torch.equal(with_memory, action_params) == (memory == "mlp")


@algos
@kinds
def test_agents_act_with_the_networks_that_the_method_names(algo, kind):
    """`acting`: each of them changes the actions, and no other network does."""
    lab = Lab(algo, kind)
    obs, avail, h, u = senses(lab, 200)
    params = tree_map(lambda x: x[0], lab.init().params)

    def acts(params):
        f = Nets(lab.algorithm.modules, params)
        return lab.algorithm.act(f, obs, avail, h)[0], lab.algorithm.act_sampled(f, obs, avail, h, u)[0]

    before = acts(params)
    moved = [name for name, p in params.items() if not same(acts(params | {name: 3 * p + 0.5}), before)]
    assert sorted(moved) == sorted(lab.algorithm.acting.split())


@algos
@kinds
def test_a_turn_moves_only_the_policy_whose_turn_it_is(algo, kind, double):
    lab = Lab(algo, kind)
    if lab.algorithm.turns == 1:
        pytest.skip("all agents move at once")
    s, obs = lab.init(), senses(lab, 50)[0]
    step = lab.algorithm.pack(1)

    def action_params(s):
        return lab.algorithm.action_params(
            Nets(lab.algorithm.modules, tree_map(lambda x: x[0], s.params)), obs, lab.algorithm.init_hidden(50)
        )[0]

    for batch, draw in lab.draws():
        before = action_params(s)
        s, _ = step(s, batch, draw)
        assert ((action_params(s) - before).abs().amax((0, 2)) > 0).nonzero().flatten().tolist() == draw.agent.tolist()


@algos
@kinds
@pytest.mark.parametrize("only", [2, torch.tensor(2)], ids=["int", "tensor"])
def test_only_moves_one_agents_rows(algo, kind, only, double):
    lab = Lab(algo, kind, share_params=False)
    a, s = lab.algorithm, tree_map(lambda x: x[0], lab.init())
    names = " ".join(s.params)

    def loss(on, tg):  # pulls at every parameter
        return sum(((p - 3) ** 2).sum() for p in on._params.values())

    after, _ = a.gradient_step(s, names, loss, only=only)
    changes = [((s.params[name], s.slots[name]), (after.params[name], after.slots[name])) for name in s.params]
    old, new = (tree_flatten(tree)[0] for tree in zip(*changes))
    assert any(len(x) > 1 for x in old)
    for x, y in zip(old, new):
        assert (x != y).any(-1).tolist() == ([False, False, True] if len(x) > 1 else [True])


# --- continuing


@each
def test_a_checkpoint_continues_bit_equal(algo, kind, memory, share, double, tmp_path):
    lab = Lab(algo, kind, seeds=(1, 2), network=memory, share_params=share)
    turns, step = lab.algorithm.turns, lab.algorithm.pack(2)
    rows = [(1, 0, "return", 0.1), (2, 0, "return", 1 / 3)]
    whole = train.run_updates(train.Checkpoint(lab.init(), rows, {}, 0), step, lab.sampler, lab.calls, turns)
    part = train.run_updates(
        train.Checkpoint(lab.init(), rows, {}, 0), step, lab.sampler, turns + 1, turns
    )  # in the middle of a round of turns
    part.save(tmp_path / "checkpoint")
    back = train.Checkpoint(lab.init(), [], {}, 0).load(tmp_path / "checkpoint", "cpu")
    assert same(back.state, part.state)
    assert not same(back.state, lab.init())
    rest = train.run_updates(back, step, lab.for_seeds(lab.seeds), lab.calls, turns)
    assert same(rest.state, whole.state)
    for name, (total, calls) in rest.losses.items():
        close(total, whole.losses[name][0], 1e-12)  # a sum in two parts
        assert calls == whole.losses[name][1] == lab.calls
    assert (rest.rows, rest.calls) == (rows, whole.calls) == (rows, lab.calls)


# --- settings


@pytest.mark.parametrize(("algo", "name"), FIELDS, ids=[f"{algo}-{name}" for algo, name in FIELDS])
def test_every_field_matters(algo, name, double):
    kind = typing.get_type_hints(ALGORITHMS[algo].Config)[name]
    for base in bases(algo):
        for actions in SPACES:
            for value in alternatives(kind, base[name]):
                changed = accepted(algo, **base | {name: value})
                if changed and not same(outcome(algo, actions, changed), outcome(algo, actions, base)):
                    return
    pytest.fail(f"{algo} does not depend on its field {name}")


def accepted(algo, **config) -> dict | None:
    """The whole configuration, None where the algorithm refuses it."""
    try:
        return dataclasses.asdict(config_of(algo, **config))
    except UserError:
        return None


def bases(algo) -> list[dict]:
    """Settings in which a field may matter. First one where nothing is switched off: shares and weights that are 0 or 1 in the
    defaults, which is where many of them stop mattering, are moved inside; then the defaults; both with and without memory. Then, for
    what matters only beside another choice than the usual one, every such choice on its own."""
    awake = accepted(algo)
    for name, value in list(awake.items()):
        if isinstance(value, float) and value in (0.0, 1.0):
            awake = accepted(algo, **awake | {name: 0.5}) or awake
    usual = accepted(algo)
    kinds = typing.get_type_hints(ALGORITHMS[algo].Config)
    choices = [
        (name, value)
        for name in usual
        if kinds[name] is bool or typing.get_args(kinds[name])
        for value in alternatives(kinds[name], usual[name])
    ]
    others = (accepted(algo, **usual | {name: value}) for name, value in choices)
    return [accepted(algo, **base | {"network": memory}) for base in (awake, usual) for memory in ("mlp", "gru")] + [o for o in others if o]


def alternatives(kind, value) -> list:
    """Other values of a field's type. Several numbers, because a cap matters only where it is reached."""
    if choices := typing.get_args(kind):
        return [choice for choice in choices if choice != value]
    if kind is bool:
        return [not value]
    if kind is int:
        return [value + 1, 2 * value + 1]
    return [value / 2, value * 2, value / 100, value / 1e4, value + 0.25]


def test_alternatives_are_others():
    assert alternatives(typing.Literal["a", "b", "c"], "b") == ["a", "c"]
    for kind, value in ((bool, True), (int, 0), (int, 3), (float, 0.5)):
        assert value not in alternatives(kind, value)
    assert set(alternatives(float, 0.0)) != {0.0}


KNOWN: dict = {}  # a base is compared with many alternatives


def outcome(algo, kind, config):
    """What training gives: the number of calls, the state, what the agents then do. The uniforms of a name depend on that name alone:
    with the sampler's, one more draw that nobody uses would shift the others."""
    key = algo, kind, *config.items()
    if key not in KNOWN:
        lab = Lab(algo, kind, **config)
        draws = [
            (batch, draw._replace(u={n: uniforms(n, call, x.shape) for n, x in draw.u.items()}))
            for call, (batch, draw) in enumerate(lab.draws())
        ]
        s, _ = lab.train(lab.init(), draws)
        obs, avail, memory, _ = senses(lab, 20)
        f = Nets(lab.algorithm.modules, tree_map(lambda x: x[0], s.params))
        KNOWN[key] = torch.tensor(lab.cfg.num_updates * lab.algorithm.turns), s, lab.algorithm.act(f, obs, avail, memory)
    return KNOWN[key]


def uniforms(name, call, shape):
    return torch.as_tensor(np.random.default_rng([zlib.crc32(name.encode()), call]).random(shape).clip(*UNIFORM_BOUNDS))


# Scenarios of the papers' tables that have no environment here yet: their settings are kept for when they have.
TO_COME = {"spread", "tag", "world"}


def paper_faults(a) -> list[str]:
    """What is wrong with an algorithm's tables of settings."""
    known = {field.name for field in dataclasses.fields(a.Config)}
    tables = (a.PAPER, a.OFFICIAL, a.TUNED)
    fields = [name for table in tables for values in table.values() for name in values]
    return [f"no field {name}" for name in fields if name not in known] + [fault for table in tables for fault in strangers(table)]


def strangers(patterns) -> list[str]:
    """Patterns that match no task, or those of several environments, whose settings have nothing to do with each other."""
    faults = []
    for pattern in patterns:
        try:
            families = {TASKS[task].family.replace("sc2", "smac") for task in TASKS.match(suites().get(pattern, [pattern]))}
            faults += [f"{pattern} matches {', '.join(sorted(families))}"] * (len(families) > 1)
        except UserError as error:
            if scenario(pattern) not in TO_COME:
                faults.append(str(error))
    return faults


@algos
def test_paper_settings_name_registered_tasks_and_real_fields(algo):
    assert not paper_faults(ALGORITHMS[algo])
    for task in TASKS:
        settings(algo, task, {})  # and are values that the method accepts
    assert ALGORITHMS[algo].paper


@algos
def test_settings_of_tasks_to_come_are_accepted(algo):
    for name in TO_COME:
        for quality in ("random", "medium", "medium_replay", "expert", "mixed"):
            own, shared = (settings(algo, f"{name}-{quality}", {}, paper) for paper in (True, False))
            stated, official = (matching(table, f"{name}-{quality}") for table in (ALGORITHMS[algo].PAPER, ALGORITHMS[algo].OFFICIAL))
            assert own == ALGORITHMS[algo].Config(**stated | (official if stated else {}))
            for field, value in matching(BENCHMARK, f"{name}-{quality}").items():
                assert dataclasses.asdict(shared).get(field, value) == value  # what it has no field for it does without


def test_the_protocol_leaves_the_small_games_alone():
    assert strangers(BENCHMARK) == []
    assert not any(matching(BENCHMARK, task) for task in TASKS if task.startswith(("xor", "mne", "bridge")))


@algos
def test_every_method_has_the_same_networks_and_budget_on_starcraft(algo):
    for task in TASKS:
        if TASKS[task].family in ("smac", "sc2"):
            own, shared = dataclasses.asdict(settings(algo, task, {})), matching(BENCHMARK, task)
            assert {"network", "share_params", "hidden_dim", "seq_len", "batch_size", "num_updates"} <= set(shared)
            assert {name: value for name, value in shared.items() if name in own}.items() <= own.items()


@algos
def test_the_real_game_has_the_settings_of_its_simulation(algo):
    twins = [task for task in TASKS if TASKS[task].family == "sc2"]
    assert twins
    for task in twins:
        for paper in (True, False):
            assert settings(algo, task, {}, paper) == settings(algo, task.removeprefix("sc2:"), {}, paper)


@pytest.mark.parametrize("algo", ["inspo", "bc"])
def test_the_protocol_is_what_published_results_were_made_with(algo):
    for task in TASKS:
        if TASKS[task].family != "mamujoco" and not matching(ALGORITHMS[algo].PAPER, task):
            assert settings(algo, task, {}) == settings(algo, task, {}, paper=True)


def test_what_has_come_is_not_to_come():
    assert not TO_COME & set(map(scenario, TASKS))


def test_faults_of_paper_settings_are_found():
    def faults(paper, protocol):
        return paper_faults(SimpleNamespace(Config=Common, PAPER=paper, OFFICIAL={}, TUNED=protocol))

    assert faults({"xor-*": dict(lr=1.0)}, {"mne-balanced": dict(batch_size=4)}) == []
    assert faults({"xor-*": dict(alhpa=1.0)}, {}) == faults({}, {"xor-*": dict(alhpa=1.0)}) == ["no field alhpa"]
    assert "xr-" in faults({"xr-*": dict(lr=1.0)}, {})[0]
    assert faults({"*-medium": dict(lr=1.0)}, {}) == ["*-medium matches mamujoco, smac"]
    assert "xr-" in faults({}, {"xr-*": dict(lr=1.0)})[0]


# --- losses

REDUCTIONS = {"mean", "sum", "prod", "std", "var", "max", "min", "amax", "amin", "median", "nanmean", "nansum", "norm", "logsumexp"}


def unmasked(source: str) -> list[str]:
    """Calls that reduce over everything, padding included, instead of with `learning.algorithm.masked_mean`: `x.mean()` or
    `torch.mean(x)` without a
    dimension, torch's own losses (which take the mean unless told otherwise), and a `mean` from elsewhere."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module != LOSSES
            and any((a.asname or a.name) in ("mean", "masked_mean") for a in node.names)
        ):
            found.append(f"line {node.lineno}: a mean that is not learning.algorithm.masked_mean")
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, given = node.func.attr, {k.arg: ast.unparse(k.value) for k in node.keywords}
        library = ast.unparse(node.func.value) in ("torch", "F", "functional", "nn.functional", "torch.nn.functional")
        if name in REDUCTIONS and len(node.args) <= library and not {"dim", "axis"} & set(given):
            found.append(f"line {node.lineno}: {name} over everything")
        if library and (name.endswith("_loss") or name in ("cross_entropy", "kl_div")) and given.get("reduction") != "'none'":
            found.append(f"line {node.lineno}: {name} of torch")
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_losses_are_reduced_by_mean_alone(path):
    assert unmasked(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "x = (q - y).square().mean()",
        "x = -log_pi.sum() / mask.sum()",
        "x = z - z.max()",
        "x = torch.mean(td)",
        "x = F.mse_loss(q, y)",
        "x = F.smooth_l1_loss(q, y, reduction='sum')",
        "x = torch.nn.functional.mse_loss(q, y)",
        "from statistics import mean",
        "from torch.masked import mean as masked_mean",
        "x = td.norm()",
    ],
)
def test_a_loss_reduced_in_another_way_is_found(line):
    assert len(unmasked(line)) >= 1


@pytest.mark.parametrize(
    "line",
    [
        "from inspo_benchmark.learning.algorithm import masked_mean",
        "x = masked_mean(b.mask, td ** 2)",
        "x = td.sum(-1).mean(dim=1)",
        "x = torch.minimum(a, b).clamp(max=1)",
        "x = torch.logsumexp(q, -1) + q.logsumexp(-1)",
        "x = F.smooth_l1_loss(q, y, reduction='none')",
        "s, p = self.gradient_step(s, 'pi', self.policy_loss, b)",
    ],
)
def test_an_honest_loss_is_not(line):
    assert unmasked(line) == []


def test_the_toy_data_are_worth_testing_with(double):
    """Windows that are full, cut by an episode's end and cut by its beginning's end; terminal steps and time limits; illegal actions."""
    b, _ = Lab("bc", "discrete", batch_size=64).sampler.draw(0)
    assert set(b.mask.sum(-1).unique().tolist()) == {1.0, 2.0, 3.0}
    assert min(LENGTHS) == 1
    last = b.mask.cumsum(-1).argmax(-1, keepdim=True)
    ends = b.terminated.gather(-1, last)
    assert 0 < ends.mean() < 1
    assert 0 < b.avail.double().mean() < 1
