"""Stages of training: they run one after the other, and a training that is stopped in any of them ends like an undisturbed one."""

import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets.catalog import fetch
from inspo_benchmark.datasets.format import load
from inspo_benchmark.learning import compiling
from inspo_benchmark.learning.algorithm import Algorithm, Stage, masked_mean
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.nets import AgentNet
from inspo_benchmark.learning.train import Stopped, train

TASK = "xor-ab_ba"


class Staged(Algorithm):
    """Clones the data into mu, then for the rest of the updates mu into pi."""

    shares = (0.4, 0.6)

    def nets(self):
        net = AgentNet(2, self.spec.obs_dim, 8, self.space.params_dim, share=False)
        return dict(mu=net, pi=AgentNet(2, self.spec.obs_dim, 8, self.space.params_dim, share=False))

    def stages(self):
        updates = [round(share * self.cfg.num_updates) for share in self.shares]
        return [Stage("cloning", updates[0], self.clone, "pi"), Stage("distilling", updates[1], self.update, "mu")]

    def loss(self, on, tg, b, name):
        h = getattr(on, name)(b.now.obs)
        return -masked_mean(b.mask[..., None], self.space.log_prob(h, b.now.actions, b.now.avail))

    def clone(self, s, b, d):
        s, loss = self.gradient_step(s, "mu", self.loss, b, "mu")
        return s, dict(loss_mu=loss)

    def update(self, s, b, d):
        s, loss = self.gradient_step(s, "pi", self.loss, b, "pi")
        return s, dict(loss_pi=loss)

    def action_params(self, f, obs, memory):
        return f.pi(obs, memory=memory)


@pytest.fixture(scope="module")
def toy():
    """A task with evaluations at updates 0, 3, .., 30, and its data."""
    task = TASKS.discover()[TASK]
    fields = {name: getattr(task, name) for name in task.__dataclass_fields__} | dict(num_evals=10, eval_episodes=2, final_episodes=2)
    return SimpleNamespace(task=type(task)(**fields), data=load(fetch(task), task))


def staged(toy, cls=Staged, num_updates=30):
    return cls(Common(batch_size=8, hidden_dim=8, num_updates=num_updates, ema_rate=0.2), toy.task.spec)


def trained(toy, path, progress=lambda update, score: None, cls=Staged):
    return train(staged(toy, cls), toy.task, toy.data, (0, 1), "cpu", path, progress)


def test_each_stage_logs_its_losses_at_its_updates(toy, tmp_path):
    rows = trained(toy, tmp_path / "x").rows
    updates = {metric: sorted({step for seed, step, m, value in rows if m == metric}) for metric in ("return", "loss_mu", "loss_pi")}
    assert updates["return"] == list(range(0, 31, 3))
    assert updates["loss_mu"] == [3, 6, 9, 12]
    assert updates["loss_pi"] == [15, 18, 21, 24, 27, 30]


def test_a_loss_is_the_mean_over_the_calls_that_log_it(toy, tmp_path):
    """A stage that ends between two evaluations: 11 updates of 30, at the evaluations 9 and 12."""

    class Uneven(Staged):
        shares = (11 / 30, 19 / 30)

        def clone(self, s, b, d):
            return super().clone(s, b, d)[0], dict(loss_mu=s.step.to(torch.get_default_dtype()))

        def update(self, s, b, d):
            return super().update(s, b, d)[0], dict(loss_pi=s.step.to(torch.get_default_dtype()))

    rows = trained(toy, tmp_path / "x", cls=Uneven).rows
    found = {(step, metric): value for seed, step, metric, value in rows if metric.startswith("loss")}
    assert (found[9, "loss_mu"], found[12, "loss_mu"], found[12, "loss_pi"], found[15, "loss_pi"]) == (7.0, 9.5, 11.0, 13.0)


@pytest.mark.parametrize("stop", [2, 12, 13, 29])
def test_a_training_that_is_stopped_in_any_stage_ends_like_an_undisturbed_one(toy, tmp_path, stop, monkeypatch):
    monkeypatch.setattr("inspo_benchmark.learning.train.LOSS_CHECK_INTERVAL", 1)

    def progress(update, score):
        if update == stop and score is None:
            raise Stopped

    whole = trained(toy, tmp_path / "whole")
    with pytest.raises(Stopped):
        trained(toy, tmp_path / "part", progress)
    part = trained(toy, tmp_path / "part")
    np.testing.assert_allclose([row[3] for row in part.rows], [row[3] for row in whole.rows], rtol=1e-12)  # losses are sums in two parts
    assert [row[:3] for row in part.rows] == [row[:3] for row in whole.rows]
    assert all(torch.equal(whole.state.params[name], part.state.params[name]) for name in ("mu", "pi"))
    assert torch.equal(whole.state.average["pi"], part.state.average["pi"])
    assert not torch.equal(part.state.average["pi"], part.state.params["pi"])


def test_the_next_stage_is_compiled_meanwhile(toy, tmp_path, monkeypatch):
    """By a process that ends with the training, also where that is stopped first."""
    begun = []

    class Noted(compiling.Compilation):
        def start(self):
            super().start()
            begun.append(self.child)

    def stop(update, score):
        if update:
            raise Stopped

    whole = trained(toy, tmp_path / "whole")
    parent = os.getpid()
    monkeypatch.setattr(compiling, "load_or_compile", lambda flat, leaves: flat if os.getpid() == parent else time.sleep(600))
    monkeypatch.setattr(compiling, "compiled_here", False)
    for name, value in dict(COMPILE_FROM=18, TRACE_FROM=1, Compilation=Noted).items():
        monkeypatch.setattr(f"inspo_benchmark.learning.train.{name}", value)
    with pytest.raises(Stopped):
        trained(toy, tmp_path / "x", stop)
    [child] = begun
    assert child
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    monkeypatch.setattr(Noted, "start", lambda self: begun.append(self))
    assert trained(toy, tmp_path / "y").rows == whole.rows
    assert begun[1].flat


def test_a_stage_moves_its_own_networks(toy, tmp_path):
    start = staged(toy).init((0, 1)).params
    for share, moved in ((1.0, {"mu"}), (0.0, {"pi"})):
        cls = type("Cut", (Staged,), dict(shares=(share, 1 - share)))
        end = trained(toy, tmp_path / str(share), cls=cls).state.params
        assert {name for name in start if not torch.equal(start[name], end[name])} == moved


def test_a_frozen_network_that_moves_is_an_error(toy, tmp_path):
    class Wrong(Staged):
        def update(self, s, b, d):
            return self.clone(s, b, d)

    with pytest.raises(ValueError, match="mu must not move in the stage 'distilling'"):
        trained(toy, tmp_path / "x", cls=Wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda s, loss: s, "has to return two things, the next state and a dict of scalars"),
        (lambda s, loss: (s, loss), "has to return two things"),
        (lambda s, loss: (dict(loss_pi=loss), s), "has to return two things"),
        (lambda s, loss: (s, {}), "logs nothing, should log its losses"),
        (lambda s, loss: (s, dict(loss_pi=loss.expand(2))), r"logs loss_pi \(2,\), should log scalars"),
        (lambda s, loss: (s, dict(loss_pi=1.0)), "logs loss_pi, which is no tensor"),
    ],
)
def test_an_update_that_returns_something_else_is_an_error(toy, tmp_path, wrong, said):
    class Wrong(Staged):
        def update(self, s, b, d):
            s, logs = super().update(s, b, d)
            return wrong(s, logs["loss_pi"])

    with pytest.raises(TypeError, match=f"an update of the stage 'distilling' .*{said}"):
        trained(toy, tmp_path / "x", cls=Wrong)


def test_a_loss_with_the_name_of_a_score_is_an_error(toy, tmp_path):
    class Wrong(Staged):
        def update(self, s, b, d):
            s, logs = super().update(s, b, d)
            return s, {"return": logs["loss_pi"]}

    with pytest.raises(TypeError, match="`update` logs return, the name of a score"):
        trained(toy, tmp_path / "x", cls=Wrong)


def test_an_update_may_return_its_networks_in_another_order(toy, tmp_path):
    class Reversed(Staged):
        def update(self, s, b, d):
            s, logs = super().update(s, b, d)
            return s._replace(params=dict(reversed(s.params.items()))), logs

    def stop(update, score):
        if update >= 20:
            raise Stopped

    with pytest.raises(Stopped):
        trained(toy, tmp_path / "x", stop, Reversed)
    assert trained(toy, tmp_path / "x", cls=Reversed).rows == trained(toy, tmp_path / "y").rows


def test_a_name_of_no_network_is_an_error(toy, tmp_path):
    class Wrong(Staged):
        def update(self, s, b, d):
            return self.online(s).policy, {}

    with pytest.raises(AttributeError, match="no network 'policy' among those of `nets`: mu, pi"):
        trained(toy, tmp_path / "x", cls=Wrong)


def test_a_mask_has_the_axes_of_the_values():
    x, mask = torch.arange(24.0).view(2, 3, 4), torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    assert masked_mean(mask[..., None], x) == x[mask > 0].mean()
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 3\) for values of shape \(2, 3, 4\)"):
        masked_mean(mask, x)


@pytest.mark.parametrize(("number", "share", "cloning"), [(10, 0.2, 2), (10, 0.01, 1), (4, 0.9, 3), (2, 0.8, 1), (1, 0.2, 0), (5, 0.0, 0)])
def test_cloning_leaves_updates_to_train(toy, number, share, cloning):
    a = staged(toy, num_updates=number)
    a.cfg = SimpleNamespace(num_updates=number, bc_share=share)
    first, second = a.cloned_first(a.clone, frozen="mu")
    assert (first.num_updates, second.num_updates) == (cloning, number - cloning)


def test_stages_that_do_not_add_up_are_an_error(toy, tmp_path):
    with pytest.raises(ValueError, match="cloning, distilling do not add up to 30"):
        trained(toy, tmp_path / "x", cls=type("Short", (Staged,), dict(shares=(0.4, 0.5))))


def test_two_stages_of_one_name_are_an_error(toy, tmp_path):
    class Twice(Staged):
        def stages(self):
            return [stage._replace(name="cloning") for stage in super().stages()]

    with pytest.raises(ValueError, match="two of the stages cloning, cloning have the same name"):
        trained(toy, tmp_path / "x", cls=Twice)


def test_weights_are_averaged_in_the_last_stage_that_has_updates(toy):
    a = staged(toy, cls=type("Cut", (Staged,), dict(shares=(1.0, 0.0))))
    s = a.init((0,))
    s = s._replace(params={name: p + 1 for name, p in s.params.items()})
    first, _ = a.stages()
    assert all((x != s.params[name]).any() for name, x in a.averages(s._replace(step=torch.tensor([9])), first).items())


def test_the_stage_of_an_update(toy):
    a = staged(toy)
    found = [(stage.name, end) for stage, end in map(a.stage_at, (0, 11, 12, 29))]
    assert found == [("cloning", 12), ("cloning", 12), ("distilling", 30), ("distilling", 30)]
