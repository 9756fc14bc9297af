"""Contracts of everything that is registered: a new schedule, bound, problem or model is tested by existing.

What a room's own tests already hold for all its members is not repeated here; what they list by hand must be
complete.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import pkgutil
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import sympy
import test_data
import test_models
import test_problems
import test_schedules
import test_trials
import torch
from conftest import NUMERIC, ONE_STEP
from scipy.optimize import minimize_scalar

import rst_theory as rst
from rst_theory import training
from rst_theory.allocation.budget import Goal
from rst_theory.bounds import ALL, Bound, ConfidenceBound, OneStepBound, RealizedBound
from rst_theory.bounds.contraction import contraction
from rst_theory.method import _Ascent
from rst_theory.notation import Ascent, DomainError, ProblemConstants
from rst_theory.simulation.run import _BACKENDS, Backend
from rst_theory.trials import TrialsKind

ASCENTS, KINDS = get_args(Ascent), get_args(TrialsKind)
TESTS = Path(__file__).parent


# The registries are complete


def modules(package):
    """Every module of a package that can be imported here."""
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("triton_kernel"):  # which needs a GPU's compiler
            yield importlib.import_module(found.name)


def concrete_classes(package, base):
    """The classes of a package that can be made; a private one is part of another."""
    return {
        value
        for module in modules(package)
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value)
        if value.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_schedule_is_a_family():
    assert concrete_classes(rst.schedules, rst.Schedule) == {*rst.schedules.FAMILIES.values()}
    for name, family in rst.schedules.FAMILIES.items():
        assert family.__name__ == name and getattr(rst, name) is family
        assert inspect.getdoc(family)
    assert {type(schedule) for schedule in test_schedules.EXAMPLES} == {*rst.schedules.FAMILIES.values()}


def test_every_bound_is_registered_and_public():
    found = {id(v): v for m in modules(rst.bounds) for v in vars(m).values() if isinstance(v, Bound)}
    assert {bound.name for bound in found.values()} == set(ALL) and len(found) == len(ALL)
    for name, bound in ALL.items():
        assert getattr(rst.bounds, name) is bound and name in rst.bounds.__all__


def test_every_problem_is_public_and_held_to_its_contract():
    """`test_problems` runs its contract over these examples; `test_floors` has that of the floor instance."""
    classes = concrete_classes(rst.problems, rst.problems.Problem)
    assert {c.__name__ for c in classes} <= {*rst.problems.__all__}
    examples = {k: v for k, v in test_problems.EXAMPLES.items() if "breast" not in k}  # it takes seconds
    assert classes == {type(example.make()) for example in examples.values()} | {rst.problems.FloorInstance}


def test_every_network_is_registered_and_held_to_its_contract():
    public = [getattr(training, name) for name in training.__all__]
    networks = {value for value in public if inspect.isclass(value) and issubclass(value, torch.nn.Module)}
    assert networks == {*training.MODELS.values()}
    assert {name: make.func for name, make in test_models.TINY.items()} == training.MODELS


def test_every_data_set_is_held_to_its_contract():
    assert {*test_data.WRITERS} | {"digits"} == {*training.DATA}


def test_the_choices_that_the_tests_list_are_all_there_are():
    assert {*test_trials.KINDS} == {*KINDS}
    assert {*get_args(_Ascent)} == {*ASCENTS}
    assert {*get_args(Backend)} == {*_BACKENDS}


# Bounds: settings within their domains


@dataclass(frozen=True)
class Point:
    """The numbers that a bound is evaluated at; a bound of one step takes those of t = 0, and G."""

    p: np.ndarray
    eta: np.ndarray
    rho: np.ndarray
    gamma: np.ndarray
    L: float
    mu: float
    sigma: float
    gap: float | None
    distance: float | None
    G: float

    @property
    def steps(self):
        return self.p.size


def value(bound, x):
    """The bound at a point, through its own `evaluate`."""
    numbers = {"constants": ProblemConstants(L=x.L, mu=x.mu, sigma=x.sigma)}
    if isinstance(bound, OneStepBound):
        first = {"p": x.p[0], "eta": x.eta[0], "rho": x.rho[0], "gamma": x.gamma[0]}
        return bound.evaluate(**first, gradient_norm=x.G, **numbers)
    numbers |= {"eta": x.eta, "rho": x.rho, "gamma": x.gamma, "gap": x.gap}
    if isinstance(bound, RealizedBound):
        return bound.evaluate(trials=x.p > 0.5, schedule=x.p, **numbers)
    numbers |= {"schedule": rst.Tabulated(tuple(x.p)), "steps": x.steps}
    if isinstance(bound, ConfidenceBound):
        return bound.evaluate(confidence=0.9, directional_noise=x.sigma / 2, **numbers)
    return bound.evaluate(distance=x.distance, **numbers)


def moderate(rng):
    """Short steps and small radii, constant and varying; trials that are rare, certain and neither."""
    T = int(rng.integers(1, 5))
    L = 10 ** rng.uniform(-1, 1)
    varying = rng.random() < 0.7
    certain = [rng.uniform(0, 1, T), rng.integers(0, 2, T) * rng.uniform(0, 1, T), np.zeros(T), np.ones(T)]
    return Point(
        p=certain[rng.integers(4)],
        eta=(rng.uniform(0.05, 0.95, T) if varying else np.full(T, rng.uniform(0.05, 0.95))) / L,
        rho=rng.uniform(0, 0.3, T) / L ** rng.integers(2),
        gamma=np.ones(T) if rng.random() < 0.5 else rng.uniform(0, 1.5, T),
        L=L,
        mu=L * rng.uniform(0.05, 0.9),
        sigma=rng.uniform(0.1, 1) if rng.random() < 0.5 else 0.0,
        gap=rng.uniform(0.1, 2),
        distance=rng.uniform(0.5, 2),
        G=rng.uniform(0.1, 2),
    )


SEARCHES = {
    "nonconvex_average_majorant",
    "nonconvex_average_confidence",
    "nonconvex_average_confidence_noisy",
}
"""Their values come from searches of a tenth of a second and more."""


@functools.cache
def points(bound):
    """Points within the bound's domain, each with its value."""
    rng, wanted, found = np.random.default_rng(1), 2 if bound.name in SEARCHES else 8, []
    for _ in range(400):
        x = moderate(rng)
        try:
            found.append((x, value(bound, x)))
        except DomainError:
            continue
        if len(found) == wanted:
            return found
    pytest.fail(f"few moderate settings lie in the domain of {bound.name}: widen `moderate`")


every_bound = pytest.mark.parametrize("bound", ALL.values(), ids=ALL)


def cancels(bound, x):
    """The scale that a difference is small against: a change of f is one of terms that can cancel."""
    return (x.G + x.L * x.rho[0] + x.sigma) ** 2 * x.eta[0] if isinstance(bound, OneStepBound) else 0.0


# Units


def measured_in(bound):
    """What a bound is a bound on, as powers of the units of f and of x, read from its metric's LaTeX."""
    latex = bound.metric.latex
    if r"\|\nabla f(x_t)\|^2" in latex:
        return 2, -2
    if r"\|x_T - x^\star\|^2" in latex:
        return 0, 2
    assert re.search(r"\bf\(x", latex), f"say in what units {bound.name} is measured"
    return 1, 0


@every_bound
@pytest.mark.parametrize("f, x", [(4.0, 1.0), (1.0, 4.0), (2.0**-10, 0.5)])
def test_a_bound_is_the_same_in_all_units(bound, f, x):
    """c f(x/s) has the trajectories of f times s. Powers of 2 change no digit of anything."""
    of_f, of_x = measured_in(bound)
    length = x**2 / f if bound.ascent == "unnormalized" else x  # y = x + rho g, or a step of length rho
    for at, found in points(bound):
        scaled = replace(
            at,
            L=at.L * f / x**2,
            mu=at.mu * f / x**2,
            sigma=at.sigma * f / x,
            gap=at.gap * f,
            distance=at.distance * x,
            G=at.G * f / x,
            eta=at.eta * x**2 / f,
            rho=at.rho * length,
        )
        assert value(bound, scaled) == pytest.approx(found * f**of_f * x**of_x, rel=NUMERIC)


# Order: of larger classes and worse starts the worst case is no smaller


def one_step_at(p, e, rho, L, mu, sigma, gap):
    """A run of one step, of size e/L."""
    p, eta, rho, gamma = (np.array([number]) for number in (p, e / L, rho, 1.0))
    return Point(p, eta, rho, gamma, L=L, mu=mu, sigma=sigma, gap=gap, distance=1.0, G=1.0)


NOT_MONOTONE = {
    # Its tangents touch at the floors, which lie higher with noise and with L.
    ("pl_last_iterate_closed", "sigma"): one_step_at(0.26, 0.19, 0.092, 7.6, 5.7, sigma=0.35, gap=0.9),
    ("pl_last_iterate_closed", "L"): one_step_at(0.75, 0.15, 0.033, 0.87, 0.72, sigma=0.0, gap=0.31),
    # Its choice of theta is poor where mu is nearly L.
    ("pl_last_iterate_strongly_convex", "L"): one_step_at(0.7, 0.82, 0.17, 3.04, 2.6, sigma=0.0, gap=0.81),
}
"""Where a bound holds and is not as good as the same bound with the larger constant."""

FACTORS = {"gap": 1.3, "distance": 1.3, "sigma": 1.3, "L": 1.01, "mu": 0.8}
ORDERED = [(name, key) for name in ALL for key in FACTORS if (name, key) not in NOT_MONOTONE]


@pytest.mark.parametrize("name, key", ORDERED)
def test_a_larger_class_or_a_worse_start_has_no_smaller_bound(name, key):
    bound = ALL[name]
    for x, found in points(bound):
        try:
            larger = value(bound, replace(x, **{key: FACTORS[key] * getattr(x, key)}))
        except DomainError:
            continue
        assert larger >= found - NUMERIC * max(abs(found), cancels(bound, x))


@pytest.mark.parametrize("name, key", NOT_MONOTONE)
def test_the_exceptions_from_this_order_are_needed(name, key):
    x = NOT_MONOTONE[name, key]
    changed = replace(x, **{key: FACTORS[key] * getattr(x, key)})
    assert value(ALL[name], changed) < value(ALL[name], x) * (1 - NUMERIC)


# Edges: what is the same run has the same bound


@every_bound
def test_what_a_step_without_trial_would_do_does_not_enter(bound):
    for x, found in points(bound):
        never = x.p == 0
        other = replace(x, gamma=np.where(never, 7.0, x.gamma), rho=np.where(never, 3.0 / x.L, x.rho))
        assert value(bound, other) == pytest.approx(found, rel=ONE_STEP)


@every_bound
def test_without_trials_or_mixing_or_radius_it_is_one_bound_of_gradient_descent(bound):
    for x, _ in points(bound):
        one = np.ones_like(x.p)
        edges = [
            replace(x, p=0 * one),
            replace(x, p=one, gamma=0 * one),
            replace(x, p=one, rho=0 * one, gamma=one),
            replace(x, rho=0 * one, gamma=one),
        ]
        found = []
        for edge in edges:
            try:
                found.append(value(bound, edge))
            except DomainError:  # a special case of certain trials, or of none
                assert any(condition.text.startswith(("p_t", "gamma_t")) for condition in bound.domain)
        assert found and found == pytest.approx([found[0]] * len(found), rel=NUMERIC)


@every_bound
def test_one_step_is_a_run(bound):
    x = next(x for x, _ in points(bound))
    first = {key: getattr(x, key)[:1] for key in ("p", "eta", "rho", "gamma")}
    assert math.isfinite(value(bound, replace(x, **first)))


# Domains, violated in every way that they declare


def wild(rng, x):
    """A moderate point of which some numbers were made large, or not given."""
    changes = {
        "eta": x.eta * rng.choice([1.0, 4.0], x.steps),
        "rho": x.rho * 10 ** rng.uniform(0, 2),
        "gamma": x.gamma * 10 ** rng.uniform(0, 1),
        "p": rng.uniform(0, 1, x.steps),
        "mu": 0.0,
        "sigma": 0.7,
        "gap": None,
        "distance": None,
    }
    return replace(x, **{k: v for k, v in changes.items() if rng.random() < 0.25})


def numbers_of(bound, x):
    """What the conditions of a bound speak of."""
    if isinstance(bound, OneStepBound):
        return x
    p = (x.p > 0.5).astype(float) if isinstance(bound, RealizedBound) else x.p
    known = {"gap": x.gap, "distance": x.distance}
    known = {key: math.inf if number is None else number for key, number in known.items()}
    same = {key: getattr(x, key) for key in ("eta", "rho", "gamma", "L", "mu", "sigma")}
    return rst.bounds.Setting(p=p, **same, **known)


DOMAINS = [(bound, condition) for bound in ALL.values() for condition in bound.domain]


@pytest.mark.parametrize("bound, condition", DOMAINS, ids=[f"{b.name}: {c.text[:30]}" for b, c in DOMAINS])
def test_each_condition_of_a_domain_is_enforced_by_name_and_value(bound, condition):
    rng = np.random.default_rng(2)
    before = bound.domain[: bound.domain.index(condition)]
    for _ in range(500):
        x = wild(rng, moderate(rng))
        if x.gap is None and isinstance(bound, RealizedBound | ConfidenceBound):
            continue  # it is an argument that must be given
        numbers = numbers_of(bound, x)
        with np.errstate(all="ignore"):
            held = [np.all(c.holds(numbers)) for c in before]
            holds = np.asarray(condition.holds(numbers))
        if all(held) and not np.all(holds):
            break
    else:
        pytest.fail("nothing violates it: is it implied?")
    with pytest.raises(DomainError, match=re.escape(f"required: {condition.text}; got ")) as caught:
        value(bound, x)
    t = int(np.argmin(holds))
    shown = np.broadcast_to(condition.shown(numbers), np.atleast_1d(holds).shape)
    assert caught.value.value == shown[t] and f"got {caught.value.value}" in str(caught.value)
    assert caught.value.at == (f"t = {t}" if holds.ndim else "")
    assert condition.latex


# The expression that is published is the number that is computed


ELSEWHERE = {
    "nonconvex_potential_unnormalized": (
        "test_unnormalized.py",
        "test_the_program_is_below_and_the_potential_close_to_it",
    ),
    **dict.fromkeys(
        ["pl_last_iterate", "pl_last_iterate_unnormalized"],
        ("test_polyak_lojasiewicz.py", "test_one_step_is_the_expression_at_its_saddle"),
    ),
    **dict.fromkeys(
        ["pl_last_iterate_convex", "pl_last_iterate_strongly_convex"],
        ("test_polyak_lojasiewicz.py", "test_one_step_is_above_the_semidefinite_relaxation_and_close_to_it"),
    ),
    **dict.fromkeys(
        ["nonconvex_average_confidence", "nonconvex_average_confidence_noisy"],
        (
            "test_concentration.py",
            "test_the_value_is_the_least_of_the_symbolic_expression_over_lambda_and_nu",
        ),
    ),
    "nonconvex_average_realized": (
        "test_realized.py",
        "test_its_symbolic_expression_evaluates_to_the_same_number",
    ),
}
"""The bounds whose letters `Reader` cannot read (searches, saddles, coins), and the test that holds them."""


def extreme(function, low, high, sign):
    """The greatest (sign 1) or least (-1) value over an interval, by a grid made finer around its best."""
    for _ in range(9):
        grid = np.linspace(low, high, 17)
        values = np.broadcast_to(sign * np.asarray(function(grid)), grid.shape)
        best = int(np.argmax(values))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 16)]
    return sign * values[best]


class Reader:
    """Reads the symbolic form of a bound at a point: letters by what they stand for, words by the notes."""

    def __init__(self, bound, x):
        self.expression, self.letters = bound.symbolic()
        self.sequences = {r"\eta": x.eta, r"\rho": x.rho, r"\gamma": x.gamma, "p": x.p, **progress(x)}
        self.words = {name: functools.partial(word, x) for name, word in WORDS.items()}
        self.numbers = {"T": x.steps, "L": x.L, r"\mu": x.mu, r"\sigma": x.sigma, r"\Delta": x.gap}
        self.numbers |= {"D": x.distance, r"w_{\min}": min(self.sequences["w"])}
        if isinstance(bound, OneStepBound):
            self.numbers |= {"G": x.G} | {name: values[0] for name, values in self.sequences.items()}
        self.known = {}

    def value(self):
        return float(self.read(self.expression, {}))

    def read(self, e, at):
        """The number that an expression is; `at` holds the variables that sums and extremes bind."""
        read = functools.partial(self.read, at=at)
        match e:
            case sympy.Symbol():
                return self.letter(e, at)
            case sympy.Indexed():
                return self.entry(e, at)
            case sympy.Sum() | sympy.Product():
                (t, first, last) = e.limits[0]
                terms = [read(e.function, at=at | {t.name: k}) for k in range(read(first), read(last) + 1)]
                return math.fsum(terms) if isinstance(e, sympy.Sum) else math.prod(terms)
            case sympy.Piecewise():
                return next(read(piece) for piece, holds in e.args if self.holds(holds, at))
            case sympy.Max() | sympy.Min():
                over = np.maximum if isinstance(e, sympy.Max) else np.minimum
                return functools.reduce(over, map(read, e.args))
            case sympy.core.function.AppliedUndef():
                return self.word(e, at)
            case sympy.Integer():
                return int(e)
            case sympy.Number():
                return float(e)
        parts = [read(part) for part in e.args]
        match e:
            case sympy.Add():
                return functools.reduce(np.add, parts)
            case sympy.Mul():
                return functools.reduce(np.multiply, parts)
            case sympy.Pow():
                return np.power(np.asarray(parts[0], float), parts[1])
            case sympy.Abs():
                return np.abs(parts[0])
        raise NotImplementedError(f"{e.func} in a bound: teach the reader, or name its test in ELSEWHERE")

    def holds(self, condition, at):
        if condition in (sympy.true, sympy.false):
            return bool(condition)
        assert isinstance(condition, sympy.Eq)
        return self.read(condition.lhs, at) == self.read(condition.rhs, at)

    def letter(self, symbol, at):
        name = symbol.name
        if name.lstrip("\\") in at:
            return at[name.lstrip("\\")]
        if symbol in self.letters:
            return self.known[name] if name in self.known else self.meaning(symbol, at)
        if name == "v_T":  # where a recursion ends
            named = {letter.name: meaning for letter, meaning in self.letters.items()}
            start, step = named["v_0"], named["v_{t+1}"]
            current = self.read(start, at)
            for t in range(self.numbers["T"]):
                current = self.read(step, at | {"v_t": current, "t": t})
            return current
        return self.numbers[name]

    def meaning(self, symbol, at):
        """What a letter stands for, which is remembered where nothing that is bound enters it."""
        try:
            return self.known.setdefault(symbol.name, self.read(self.letters[symbol], {}))
        except KeyError:
            return self.read(self.letters[symbol], at)

    def entry(self, e, at):
        index = self.read(e.indices[0], at)
        if e.base.name in self.sequences:
            return self.sequences[e.base.name][index]
        key = next(k for k in self.letters if isinstance(k, sympy.Indexed) and k.base == e.base)
        return self.read(self.letters[key], at | {key.indices[0].name: index})

    def word(self, e, at):
        """A function of the notes, or an extreme over a variable whose range its name tells."""
        name = e.func.__name__
        if name in self.words:
            return self.words[name](*(self.read(argument, at) for argument in e.args))
        found = re.fullmatch(r"\\(min|max)_\{(?:(.+?) (?:<|\\le) )?(\S+) (?:<|\\le|\\ge) (.+)\}", name)
        assert found, f"{name} in a bound: teach the reader, or name its test in ELSEWHERE"
        kind, low, variable, high = found.groups()
        sign, inside = (1 if kind == "max" else -1), e.args[0]

        def function(x):
            return self.read(inside, at | {variable.lstrip("\\"): x})

        if variable == "t":
            return sign * max(sign * function(t) for t in range(self.numbers["T"]))
        if low is None:  # from 0 on
            return extreme(lambda u: function(u / (1 - u)), 0.0, 1 - 1e-9, sign)
        low, high = (float(end) if end.isdigit() else self.numbers[end] for end in (low, high))
        if not inside.atoms(sympy.core.function.AppliedUndef):
            return extreme(function, low, high, sign)
        assert (low, high, kind) == (0, 1, "min")
        # An extreme of extremes: by fewer evaluations, in the log-odds, where it is as flat as it is wide.
        return minimize_scalar(
            lambda u: function(1 / (1 + math.exp(-u))), bounds=(-30, 30), method="bounded"
        ).fun


def progress(x):
    """The sequences w, psi and c of `paper_notes/convex.md`."""
    w, psi, c = np.ones(x.steps), np.ones(x.steps), np.ones(x.steps)
    for t, (p, eta, rho, gamma) in enumerate(zip(x.p, x.eta, x.rho, x.gamma, strict=True)):
        e, r, q, v = x.L * eta, x.L * rho, p * gamma, gamma * x.L * eta

        def spent(o, e=e, r=r, q=q, v=v):
            return -(1 - e) * (1 + 2 * q * r * o) + q * r**2 * (2 * o - (2 - v) * (o if v > 2 else o**2))

        def rise(o, bend=2 - v - (1 - e) * q):
            return 2 * o - bend * (o if bend < 0 else o**2)

        w[t] = 1 - max(0.0, extreme(spent, 0.0, 1.0, 1))
        psi[t] = extreme(rise, 0.0, 1.0, 1)
        c[t] = min(1.0, q * r**2 * psi[t] / (1 - e))
    return {"w": w, r"\psi": psi, "c": c}


def factor(quantity, convex, x, *row):
    """kappa of `paper_notes/strongly_convex.md`, which has its own tests; at mu = 0 if convex."""
    arrays = (np.array([float(number)]) for number in row)
    return contraction(quantity, *arrays, x.L, 0.0 if convex else x.mu)[0]


def phi(convex, x, u):
    m = 0.0 if convex else x.mu / x.L
    return (1 - m + u * m) ** 2 / (2 - u) + u * m**2 if u <= 1 - m else u


def worst_change(x, p, eta, rho, gamma, G):
    at = {"p": p, "eta": eta, "rho": rho, "gamma": gamma, "constants": ProblemConstants(L=x.L)}
    return np.vectorize(lambda g: rst.bounds.one_step_smooth.evaluate(gradient_norm=g, **at))(G)


NESTED = {
    "nonconvex_average_whole",
    "nonconvex_average_majorant",
    "nonconvex_average_unnormalized_noisy",
}
"""An extreme of a sum of extremes: some seconds for a reading."""

WORDS = {
    r"\kappa": lambda x, *row: factor("squared_distance", False, x, *row),
    r"\kappa_0": lambda x, *row: factor("squared_distance", True, x, *row),
    r"\kappa^f": lambda x, *row: factor("gap", False, x, *row),
    r"\varphi": functools.partial(phi, False),
    r"\varphi_0": functools.partial(phi, True),
    r"\Phi": worst_change,
}


@pytest.mark.parametrize("name", [name for name in ALL if name not in ELSEWHERE])
def test_the_published_expression_is_the_number(name):
    defined = 0
    for x, found in points(ALL[name])[: 1 if name in NESTED else 4]:
        scale = cancels(ALL[name], x)
        try:
            read = Reader(ALL[name], x).value()
        except FloatingPointError:  # 0/0, where the notes speak of a limit
            assert x.sigma == 0 and not x.p.all()
            continue
        defined += 1
        assert read == pytest.approx(found, rel=NUMERIC, abs=NUMERIC * scale)
    assert defined


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_the_reader_cannot_read_has_a_test_of_its_own(name):
    file, test = ELSEWHERE[name]
    assert name in ALL and f"def {test}(" in (TESTS / file).read_text(encoding="utf-8")


# Networks


@pytest.mark.parametrize("name", training.MODELS)
def test_a_network_comes_back_from_its_state(name, tmp_path):
    """Whatever its size: through a file that holds weights only, into a twin that began elsewhere."""
    first, twin = (test_models.seeded(test_models.TINY[name], (3, 8, 8), 10, seed=seed) for seed in (0, 1))
    images = test_models.images(4, dtype=torch.float32)
    first.train()(images)  # moves running statistics, where there are any
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), twin.parameters(), strict=True))
    twin.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), strict=True)
    assert torch.equal(first.eval()(images), twin.eval()(images))


# Simulation: the edges of every engine, ascent and kind of trials


EDGES = {
    "p = 0": {"schedule": 0.0, "rho": 0.3, "gamma": 1.5},
    "gamma = 0": {"schedule": 1.0, "rho": 0.3, "gamma": 0.0},
    "rho = 0": {"schedule": 1.0, "rho": 0.0, "gamma": 1.5},
}


@pytest.mark.parametrize("backend", [name for name in _BACKENDS if name != "auto"])
@pytest.mark.parametrize("ascent", ASCENTS)
@pytest.mark.parametrize("trials", KINDS)
def test_at_its_edges_every_engine_descends_along_the_gradient(backend, ascent, trials):
    if backend == "numba":
        pytest.importorskip("numba")
    eigenvalues, start, eta = np.array([1.0, 0.4, 0.1]), np.array([1.0, -2.0, 0.5]), 0.3
    problem = rst.problems.Quadratic(eigenvalues, start=start)
    for steps in (1, 4):
        for name, edge in EDGES.items():
            run = rst.simulate(
                problem,
                steps=steps,
                eta=eta,
                replicas=3,
                ascent=ascent,
                trials=trials,
                backend=backend,
                **edge,
            )
            x = (1 - eta * eigenvalues) ** np.arange(steps)[:, None] * start
            expected = ((eigenvalues * x) ** 2).sum(axis=1)
            assert run.squared_gradient_norm.mean == pytest.approx(expected, rel=NUMERIC), name
            assert (run.extra_pairs == (0 if name == "p = 0" else steps)).all()


# Cost: a certain coin has no law


@pytest.mark.parametrize("family", rst.schedules.FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_has_a_law_from_one_step_on(family, kind):
    schedule = next(s for s in test_schedules.EXAMPLES if type(s).__name__ == family)
    for T in (3,) if family == "Tabulated" else (1, 2, 7):
        p = schedule.probabilities(T)
        law = rst.CostLaw(schedule, T, kind=kind)
        pmf = law.pmf()
        assert pmf.shape == (T + 1,) and (pmf >= 0).all()
        assert pmf.sum() == pytest.approx(1, rel=ONE_STEP)
        assert pmf @ np.arange(T + 1) == pytest.approx(p.sum(), rel=NUMERIC)
        if kind == "systematic":
            assert (pmf[np.abs(np.arange(T + 1) - p.sum()) >= 1] <= ONE_STEP).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T", [1, 5])
def test_what_is_certain_costs_what_it_costs(kind, T):
    for p in (0.0, 1.0):
        law = rst.CostLaw(p, T, kind=kind)
        assert law.mean == p * T and law.variance == 0 and law.pmf()[int(p * T)] == 1


# Allocation: the edges of every goal


@pytest.mark.parametrize("goal", get_args(Goal))
@pytest.mark.parametrize("T", [1, 5])
def test_no_budget_buys_nothing_and_a_full_one_everything(goal, T):
    constants = ProblemConstants(L=1.0, mu=0.2, sigma=0.1)
    run = {"steps": T, "eta": 0.3, "rho": 0.1, "degree": 0.5, "constants": constants, "goal": goal}
    assert rst.allocate(1.0, **run).probabilities(T) == pytest.approx(np.ones(T), rel=ONE_STEP)
    with pytest.raises(DomainError):
        rst.allocate(1.1, **run)
    spent = rst.allocate(0.5, **run).probabilities(T)
    assert spent.mean() == pytest.approx(0.5, rel=NUMERIC) and (spent <= 1).all()
