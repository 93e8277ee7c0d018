"""The base class of every method, and the few operations on losses and returns that all of them use.

A method is a pure function of one run, `update(state, batch, draw) -> state, logs`. It knows no seeds, no device and no optimizer object.
`pack` turns it into a function of S runs that train as one batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from inspo_benchmark.core.spaces import MASKED
from inspo_benchmark.core.types import Batch, Draw, Spec, State, Timestep
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.nets import flatten, replace, select, unflatten
from inspo_benchmark.learning.normalize import normalize_rewards
from inspo_benchmark.learning.optim import Adam, RMSprop
from inspo_benchmark.learning.shaping import shape_rewards


class Nets:
    """Networks called with given parameters: `nets.pi(x)`, or `nets.pi(x, agent=i)` for one agent."""

    def __init__(self, modules: dict[str, nn.Module], params: dict[str, Tensor]):
        self._modules, self._params = modules, params
        self._unflattened: dict[str, dict[str, Tensor]] = {}  # of calls for all agents

    def __getattr__(self, name: str) -> Callable:
        if name not in self._modules:
            raise AttributeError(f"no network {name!r} among those of `nets`: {', '.join(self._modules)}")
        module, flat = self._modules[name], self._params[name]

        def call(*args, agent=None, **kwargs):
            if agent is not None:
                return functional_call(module, unflatten(module, flat, agent), args, {**kwargs, "agent": agent})
            if name not in self._unflattened:
                self._unflattened[name] = unflatten(module, flat)
            return functional_call(module, self._unflattened[name], args, kwargs)

        return call


def masked_mean(mask: Tensor, x: Tensor) -> Tensor:
    """Mean of x over the entries where mask is 1; mask has as many axes as x, and broadcasts. Losses are reduced over the batch by this
    alone. ValueError: the axes differ, as with x [B, L, N] and mask [B, L], which has to be mask[..., None]."""
    if mask.ndim != x.ndim:
        raise ValueError(f"a mask of shape {tuple(mask.shape)} for values of shape {tuple(x.shape)}: a mask [B, L] fits x [B, L]")
    mask = mask.expand(x.shape)
    return (mask * x).sum() / mask.sum().clamp(min=1)


def batch_softmax(x: Tensor, mask: Tensor) -> Tensor:
    """n softmax over the n rows of data in the batch, at each time step: x [B, L, ..], mask [B, L, ..]. Its mean over data is 1."""
    return mask.sum(0) * torch.where(mask > 0, x, MASKED).softmax(0)


def state_and_obs(x: Timestep | Batch) -> Tensor:
    """Input of a centralized critic: the state beside each agent's observation, [B, L, N, S + O]."""
    return torch.cat([x.state[:, :, None].expand(*x.obs.shape[:3], -1), x.obs], -1)


def td_lambda_returns(v: Tensor, b: Batch, gamma: float, lam: float) -> Tensor:
    """TD(lambda) targets from the values v of the next rows, [B, L] or per agent [B, L, N]. lam = 0 is one step, lam = 1 is Monte Carlo.

    G_t = r_t + gamma (1 - terminal_t) ((1 - lam) v_{t+1} + lam G_{t+1}). Where the data end, v_{t+1} takes the place of G_{t+1}.
    """
    r, live, data = ((x if v.ndim == 2 else x[..., None]) for x in (b.rewards, 1 - b.terminated, b.mask > 0))
    g = v[:, -1]
    rows = []
    for t in reversed(range(v.shape[1])):
        g = r[:, t] + gamma * live[:, t] * torch.lerp(v[:, t], g, lam)
        rows.append(g)
        g = torch.where(data[:, t], g, v[:, t - 1])
    return torch.stack(rows[::-1], 1)


def resampling_counts(log_rho: Tensor, mask: Tensor, u: Tensor) -> Tensor:
    """Systematic resampling in proportion to rho: how often each row is drawn, [B, L].

    u: one uniform number. The counts sum to B L, up to rounding.
    """
    rho = torch.where(mask > 0, log_rho, -torch.inf).flatten().softmax(-1)
    edges = (rho.cumsum(-1) * len(rho) + 1 - u).floor()
    return edges.diff(prepend=torch.zeros_like(edges[:1])).view(mask.shape)


def running_mean_rate(step: Tensor, rate: float) -> Tensor:
    """The rate at which a running mean takes in its value of a step: 1 / (1 + step), as in a plain mean, but at least `rate`."""
    return (1 / (1 + step)).clamp(min=rate)


def clip_gradients(grads: dict[str, Tensor], max_norm: float) -> dict[str, Tensor]:
    """The gradients [rows, P] of networks that step together, scaled down to norms of at most `max_norm`.

    Networks with a row of weights per agent have one norm per agent, over all of these networks: no agent's gradient shrinks because
    another's is large. Networks that the agents share have one norm, over all of them.
    """
    squares: dict[int, Tensor] = {}  # rows -> squared norm of each row
    for grad in grads.values():
        rows = len(grad)
        square = torch.linalg.vector_norm(grad, dim=-1) ** 2
        squares[rows] = squares[rows] + square if rows in squares else square
    scales = {rows: (max_norm / (square.sqrt() + 1e-6)).clamp(max=1.0) for rows, square in squares.items()}
    return {name: scales[len(grad)][:, None] * grad for name, grad in grads.items()}


Update = Callable[[State, Batch, Draw], tuple[State, dict[str, Tensor]]]


class Stage(NamedTuple):
    """A part of training: `num_updates` updates by `update`, which has the form of `Algorithm.update`."""

    name: str
    num_updates: int
    update: Update
    frozen: str = ""  # names of networks that these updates must not move


class Algorithm(ABC):
    """A method. A subclass defines `nets` and `update`, and `action_params` if its policies are not just a network `pi`.

    `paper` is its citation. `stochastic` is false if it learns no distribution over actions, but for example Q-values, and takes the action
    with the largest one: then nothing is sampled in evaluation. `acting` names the networks that agents act with. Three tables hold
    settings per task. Their keys are globs of task names or names of suites (`running.suites`); of the rows that match a task, the last one
    wins. `TUNED` holds the method's settings in the benchmark, beside those that all methods share. `PAPER` holds what the paper or its
    code states, and `OFFICIAL` the switches that make the update that of the published code; `--paper` uses these two instead.
    """

    Config: ClassVar[type[Common]] = Common
    PAPER: ClassVar[dict[str, dict[str, Any]]] = {}
    OFFICIAL: ClassVar[dict[str, dict[str, Any]]] = {}
    TUNED: ClassVar[dict[str, dict[str, Any]]] = {}
    stochastic: ClassVar[bool] = True
    acting: ClassVar[str] = "pi"
    paper: ClassVar[str] = ""
    execution: ClassVar[str] = "decentralized"  # "autoregressive": agents act one after the other and know the earlier actions

    def __init__(self, cfg: Common, spec: Spec):
        self.cfg: Any = cfg  # an instance of the method's own Config
        self.spec, self.space = spec, spec.space
        with torch.device("meta"):  # shapes only: every call is given its parameters
            self.modules = self.nets()

    @abstractmethod
    def nets(self) -> dict[str, nn.Module]:
        """The networks of one run, by name."""

    @abstractmethod
    def update(self, s: State, b: Batch, d: Draw) -> tuple[State, dict[str, Tensor]]:
        """One update of one run, or one agent's turn of it: the next state, and scalars to log."""

    def action_params(self, f: Nets, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The policies: obs [E, N, O], memory [E, N, H] -> action parameters [E, N, P], next memory. They never see the state."""
        return f.pi(obs, memory=memory)

    def stages(self) -> list[Stage]:
        """The parts of training, one after the other. Their updates add up to `num_updates`; a part of 0 updates is passed over.

        State and step go through all of them. For example, a method that clones the data first (`cloned_first`) or distils at the end.
        """
        return [Stage("training", self.cfg.num_updates, self.update)]

    def cloned_first(self, clone: Update, frozen: str) -> list[Stage]:
        """Stages in which `clone` fits networks to the data for the share `bc_share` of the updates, and `update` then keeps those named in
        `frozen` as they are. `bc_share` is a field that the method's Config has to define. With two updates or more each stage has at
        least one; if the share is 0, cloning has none."""
        number = self.cfg.num_updates
        cloning = min(max(round(self.cfg.bc_share * number), 1), number - 1) if self.cfg.bc_share else 0
        return [Stage("cloning", cloning, clone), Stage("training", number - cloning, self.update, frozen)]

    def optimizer(self, name: str) -> Adam | RMSprop:
        """The optimizer of the network of that name."""
        return Adam(self.cfg.lr)

    @property
    def turns(self) -> int:
        """Calls of `update` in one update, each with its own minibatch: N for methods that draw one for each agent's turn, else 1."""
        return 1

    def noise(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the uniform random numbers that one call of `update` finds in d.u."""
        return {}

    def prepare_data(self, data: Dataset) -> Dataset:
        """What the method trains on, made once from whole episodes: a subset of them (`data.subset`), or other rewards, such as returns to
        go. Observations are normalized already, in the same way for all methods. Here: rewards are normalized if the method's
        `normalize_rewards` is set, and then shaped if `shape_rewards` is."""
        if self.cfg.normalize_rewards:
            data = normalize_rewards(data, self.cfg.gamma)
        return shape_rewards(data, self.cfg.gamma) if self.cfg.shape_rewards else data

    # acting ------------------------------------------------------------------------------------------------------------

    def acting_params(self, s: State) -> dict[str, Tensor]:
        """The parameters that agents act with in evaluation."""
        return s.params | s.average

    def init_hidden(self, *lead: int) -> Tensor:
        """The recurrent state at the start of an episode, zeros [*lead, N, H]. H is 0 for feed-forward policies."""
        return torch.zeros(*lead, self.spec.num_agents, self.cfg.hidden_dim if self.cfg.network == "gru" else 0)

    @property
    def acting_noise_shape(self) -> tuple[int, ...]:
        """Trailing shape of the uniforms that one agent takes to sample an action."""
        return self.space.noise_shape

    def act(self, f: Nets, obs: Tensor, avail: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy actions [E, N] or [E, N, D], next memory."""
        h, memory = self.action_params(f, obs, memory)
        return self.space.mode(h, avail), memory

    def act_sampled(self, f: Nets, obs: Tensor, avail: Tensor, memory: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Actions of the stochastic policies at the uniforms u [E, N, *acting_noise_shape], next memory."""
        h, memory = self.action_params(f, obs, memory)
        return self.space.sample(h, avail, u), memory

    # learning ----------------------------------------------------------------------------------------------------------

    def init(self, seeds: Sequence[int]) -> State:
        """New runs, each initialized under its own seed, stacked [S, ...]."""
        runs = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                nets = self.nets()
            params = {name: flatten(net) for name, net in nets.items()}
            slots = {name: self.optimizer(name).slot(p) for name, p in params.items()}
            average = {name: params[name].clone() for name in self.acting.split() if self.cfg.ema_rate < 1}
            runs.append(State(params, tree_map(torch.clone, params), slots, torch.zeros((), dtype=torch.int64), average))
        return tree_map(lambda *leaves: torch.stack(leaves), *runs)

    def stage_at(self, update: int) -> tuple[Stage, int]:
        """The stage that follows after so many updates, and the number of updates at its end. ValueError: the stages do not add up to
        `num_updates`, or two have the same name."""
        stages = self.stages()
        names = [stage.name for stage in stages]
        if sum(stage.num_updates for stage in stages) != self.cfg.num_updates:
            raise ValueError(f"the updates of {', '.join(names)} do not add up to {self.cfg.num_updates}")
        if len(set(names)) < len(names):
            raise ValueError(f"two of the stages {', '.join(names)} have the same name; give each its own")
        end = 0
        for stage in stages:
            end += stage.num_updates
            if update < end:
                break
        return stage, end

    def pack(self, num_runs: int, stage: Stage | None = None) -> Update:
        """The update of a stage, by default the last one, as a function of S stacked runs, which also counts the calls. A single run is
        not batched, which is faster. ValueError, when called: a frozen network moves."""
        stage = stage or self.stages()[-1]

        def counted(s, b, d):
            result = stage.update(s, b, d)
            if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], State) and isinstance(result[1], dict)):
                raise TypeError(
                    f"an update of the stage {stage.name!r} has to return two things, the next state and a dict of scalars to log"
                )
            new, logs = result
            if not logs:
                raise TypeError(f"an update of the stage {stage.name!r} logs nothing, should log its losses")
            if numbers := [name for name, x in logs.items() if not isinstance(x, Tensor)]:
                raise TypeError(f"an update of the stage {stage.name!r} logs {', '.join(numbers)}, which is no tensor")
            if shapes := [f"{name} {tuple(x.shape)}" for name, x in logs.items() if x.ndim]:
                raise TypeError(f"an update of the stage {stage.name!r} logs {', '.join(shapes)}, should log scalars")
            if moved := [name for name in stage.frozen.split() if new.params[name] is not s.params[name]]:
                raise ValueError(f"{', '.join(moved)} must not move in the stage {stage.name!r}")
            structure = tree_flatten(s)[1]
            new = tree_unflatten(structure.flatten_up_to(new), structure)  # an update may return its networks in another order
            return new._replace(step=s.step + 1, average=self.averages(new, stage)), logs

        return over_runs(counted, num_runs)

    def averages(self, s: State, stage: Stage) -> dict[str, Tensor]:
        """The running means of the acting weights after a call of `update`: a <- a + rate (theta - a).

        The rate is 1 / (1 + calls), counted over all stages, but at least `ema_rate` per update: without other stages a is the mean of all
        theta at first. Before the last stage a is theta, so the last stage begins with what the others end with.
        """
        rate: Tensor | float = 1.0
        if stage.name == [each.name for each in self.stages() if each.num_updates][-1]:
            rate = running_mean_rate(s.step, self.cfg.ema_rate / self.turns)
        return {name: a.lerp(s.params[name], rate) for name, a in s.average.items()}

    def online(self, s: State) -> Nets:
        """The networks that learn."""
        return Nets(self.modules, s.params)

    def targets(self, s: State) -> Nets:
        """The target networks."""
        return Nets(self.modules, s.target)

    def gradient_step(
        self, s: State, names: str, loss: Callable[..., Tensor], *args, only: Tensor | int | None = None, when: Tensor | None = None
    ) -> tuple[State, Tensor]:
        """One optimizer step of the named networks on `loss(on, tg, *args)`: next state, loss.

        `on` and `tg` are the online and the target networks; only the named online ones carry a gradient. Gradients are clipped to
        `max_grad_norm`, see `clip_gradients`. `only`: of networks with weights per agent, move this agent's alone; `loss` has to call them
        with `agent`. `when`: do not move, unless this is true.
        """
        moving = {name: (s.params[name], s.slots[name]) for name in names.split()}
        moving = tree_map(partial(agent_row, only), moving)  # the rows that move, and their slots

        def of(rows):
            return loss(Nets(self.modules, {**s.params, **rows}), self.targets(s), *args)

        grads, value = grad_and_value(of)({name: row for name, (row, _) in moving.items()})
        grads = clip_gradients(grads, self.cfg.max_grad_norm)
        params, slots = dict(s.params), dict(s.slots)
        for name, (row, slot) in moving.items():
            new = self.optimizer(name).step(row, grads[name], slot)
            if when is not None:
                new = tree_map(partial(torch.where, when), new, (row, slot))
            params[name], slots[name] = tree_map(partial(put_agent_row, only), new, (s.params[name], s.slots[name]))
        return s._replace(params=params, slots=slots), value

    def gradient_step_per_timestep(
        self, s: State, names: str, loss: Callable[..., Tensor], b: Batch, *args: Tensor
    ) -> tuple[State, Tensor]:
        """A `gradient_step` on loss(on, tg, b, *args) for each time step of the batch in turn: next state, mean of the L losses.

        The published codes of ICQ and of discrete OMAR train their critics in this way. `args` have axes [B, L, ..] and are cut like the
        batch. A time step at which no sequence has data is skipped.
        """
        losses = []
        for t in range(b.mask.shape[1]):
            observed = [x[:, t : t + 2] for x in (b.obs, b.state, b.avail, b.actions)]  # this row and the next
            earned = [x[:, t : t + 1] for x in (b.rewards, b.terminated, b.mask)]
            step = Batch(*observed, *earned)
            args_now = [x[:, t : t + 1] for x in args]
            has_data = step.mask.flatten().amax(0) > 0
            s, value = self.gradient_step(s, names, loss, step, *args_now, when=has_data)
            losses.append(value)
        return s, torch.stack(losses).mean(0)

    def update_targets(self, s: State, names: str, tau: Tensor | float | None = None) -> State:
        """Targets of the named networks: theta' <- theta' + tau (theta - theta'), or theta' <- theta at every
        `target_update_interval`-th update.

        `tau`: another rate than the configuration's.
        """
        target = dict(s.target)
        if tau is None:
            interval = self.cfg.target_update_interval * self.turns
            tau = ((s.step + 1) % interval == 0).to(torch.get_default_dtype()) if interval else self.cfg.tau
        for name in names.split():
            target[name] = target[name].lerp(s.params[name], tau)
        return s._replace(target=target)

    def at_next(self, net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """An agent network at the rows 1 .. L of a sequence. A recurrent network has to start at row 0."""
        return net(x)[:, 1:] if self.cfg.network == "gru" else net(x[:, 1:])


def over_runs(function: Callable, num_runs: int) -> Callable:
    """A function of one run as a function of stacked runs. A single run is not batched, which is faster."""
    if num_runs > 1:
        return vmap(function)
    return lambda *args: tree_map(lambda x: x[None], function(*tree_map(lambda x: x[0], args)))


def agent_row(only: Tensor | int | None, x: Tensor) -> Tensor:
    """The row [1, ...] of agent `only` in x [N, ...]. Without `only`, or with shared weights, x itself."""
    return x if only is None or x.shape[0] == 1 else select(x, 0, only)[None]


def put_agent_row(only: Tensor | int | None, row: Tensor, x: Tensor) -> Tensor:
    """x with its row of agent `only` replaced, as `agent_row` cuts it."""
    if only is None or x.shape[0] == 1:
        return row
    return replace(x, 0, only, row[0])
