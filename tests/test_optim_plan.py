"""The plan of a run by itself: tables, values step by step, trials, cost, and what is refused."""

import dataclasses

import numpy as np
import pytest
from conftest import ONE_STEP

from rst_theory.notation import DomainError
from rst_theory.optim.plan import Plan, as_schedule, checked, require_same
from rst_theory.schedules import Constant, FromExpression, InverseSqrt, Linear, Periodic, Tabulated
from rst_theory.trials import Trials, uniform

USUAL = {
    "schedule": Linear(0.0, 1.0),
    "total_steps": 4,
    "rho": [0.1, 0.2, 0.3, 0.4],
    "gamma": None,
    "degree": None,
    "max_gamma": None,
    "seed": 5,
    "trials": "independent",
    "ascent": "normalized",
}


def plan(**changed):
    return Plan(**(USUAL | changed))


def close(found, expected):
    assert found == pytest.approx(expected, rel=ONE_STEP)


def test_each_quantity_has_its_value_at_each_step():
    p, rho, degrees = [0, 1 / 3, 2 / 3, 1], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.25, 0.125]
    mixed = plan(gamma=Linear(0.0, 3.0))
    for t in range(4):
        close([mixed.at(name, t) for name in ("schedule", "rho", "gamma")], [p[t], rho[t], t])
        assert plan().at("gamma", t) == 1
    close(mixed.degree_attained(0), sum(a * b for a, b in zip(p, range(4), strict=True)) / 4)
    for cap in (None, 1.0):
        by_degree = plan(degree=degrees, max_gamma=cap)
        gammas = [0.0] + [min(d / a, cap or 9) for d, a in zip(degrees[1:], p[1:], strict=True)]
        close([by_degree.at("gamma", t) for t in range(4)], gammas)
        close([by_degree.at("rho", t) for t in range(4)], rho)
        close(by_degree.degree_attained(3), sum(a * b for a, b in zip(p, gammas, strict=True)) / 4)
    endless = {"total_steps": None, "schedule": InverseSqrt(0.8), "rho": 0.3}
    for cap in (None, 0.5):
        by_degree = plan(**endless, degree=FromExpression("1 / (t + 2)"), max_gamma=cap)
        for t in (0, 1, 8):
            chance = 0.8 / (t + 1) ** 0.5
            gamma = min(1 / (t + 2) / chance, cap or 9)
            close([by_degree.at(n, t) for n in ("schedule", "rho", "gamma")], [chance, 0.3, gamma])
            close(by_degree.degree_attained(t), chance * gamma)
    mixed = plan(**endless, gamma=FromExpression("t + 1"))
    close([mixed.at("gamma", t) for t in range(3)], [1, 2, 3])
    close(mixed.degree_attained(3), 0.8 / 2 * 4)
    assert plan(**endless).at("gamma", 7) == 1


def test_the_trials_are_those_of_the_seed_with_and_without_an_end():
    p = 0.37
    for seed in (0, 2**64 - 1):
        expected = uniform(seed, np.arange(4100)) < p
        endless, ended = (plan(schedule=p, seed=seed, total_steps=T, rho=0.1) for T in (None, 4100))
        for t in (0, 1, 2, 1022, 1023, 1024, 1025, 2047, 2048, 3000, 4099, 3):
            assert endless.trial(t) is ended.trial(t) is bool(expected[t])
        assert ended.pairs() == 4100 + expected.sum()
    edge = float(uniform(5, np.arange(1))[0])  # a coin that falls on the probability itself is none
    assert plan(schedule=edge, total_steps=None, rho=0.1).trial(0) is False
    assert plan(schedule=np.nextafter(edge, 1), total_steps=None, rho=0.1).trial(0) is True
    systematic = plan(schedule=0.5, total_steps=8, rho=0.1, trials="systematic")
    drawn = Trials(np.full(8, 0.5), 5, "systematic").sequence()
    assert [systematic.trial(t) for t in range(8)] == drawn.tolist()
    assert systematic.pairs() == 8 + 4
    for p in (0.0, 1.0):
        assert plan(schedule=p).pairs() == 4 + 4 * p and plan(schedule=p).trial(3) is bool(p)
    with pytest.raises(ValueError, match=r"has no end: give total_steps"):
        plan(total_steps=None, schedule=0.5, rho=0.1).pairs()


def test_a_step_beyond_the_end_is_refused():
    for call in (plan().trial, lambda t: plan().at("rho", t), lambda t: plan(degree=0.5).at("gamma", t)):
        for t in (4, 5):
            with pytest.raises(DomainError, match=rf"t < total_steps = 4, where the run ends; got {t}"):
                call(t)


def test_a_plan_is_plain_data_that_does_not_change():
    made = plan(seed=np.uint64(3), total_steps=np.int64(4), degree=0.5, max_gamma=np.float32(2))
    kept = {**USUAL, "seed": 3, "degree": Constant(0.5).to_dict(), "max_gamma": 2.0}
    kept |= {"schedule": Linear(0.0, 1.0).to_dict(), "rho": Tabulated((0.1, 0.2, 0.3, 0.4)).to_dict()}
    assert made.to_dict() == kept
    assert [type(made.to_dict()[name]) for name in ("seed", "total_steps", "max_gamma")] == [int, int, float]
    assert plan().to_dict()["gamma"] == Constant(1.0).to_dict() and plan().to_dict()["max_gamma"] is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seed = 4
    assert plan() != plan() and len({plan(), plan()}) == 2
    assert not any(name in repr(made) for name in ("_tables", "_trials", "_uniforms"))


def test_what_a_plan_refuses():
    assert plan(total_steps=1, rho=[0.1]).pairs() == 1
    told = [
        ({"total_steps": 0}, DomainError, r"total_steps"),
        ({"seed": -1}, DomainError, r"seed"),
        ({"seed": 2**64}, DomainError, r"seed"),
        ({"trials": "paired"}, ValueError, r"^trials must be 'independent' or 'systematic'; got 'paired'$"),
        ({"ascent": "up"}, ValueError, r"^ascent must be 'normalized' or 'unnormalized'; got 'up'$"),
        ({"max_gamma": 1.0}, ValueError, r"max_gamma caps"),
        ({"gamma": 1.0, "degree": 0.5}, ValueError, r"gamma or degree, not both; got 1.0 and 0.5"),
        ({"degree": 0.5, "max_gamma": -1.0}, DomainError, r"mixing coefficient gamma"),
        ({"rho": [0.1, 0.2]}, ValueError, r"4"),
        ({"rho": -0.1}, DomainError, r"radius rho"),
        ({"schedule": Linear(0.0, 1.5)}, DomainError, r"probability p.*t = 3"),
        ({"gamma": -1.0}, DomainError, r"mixing coefficient gamma"),
        ({"degree": -1.0}, DomainError, r"degree of regularization"),
        (
            {"schedule": None},
            TypeError,
            r"^schedule must be a number, an array \(T,\) or a schedule; got None",
        ),
        ({"rho": [[0.1]]}, ValueError, r"^rho must be .* got shape \(1, 1\)"),
        ({"rho": [[[0.1]]]}, ValueError, r"^rho must be .* got shape \(1, 1, 1\)"),
        ({"rho": "wide"}, TypeError, r"rho"),
    ]
    endless = {"total_steps": None, "schedule": 0.5, "rho": 0.1}
    for name in ("schedule", "rho", "gamma", "degree"):
        told.append(({**endless, name: Linear(0.1, 0.2)}, ValueError, rf"^{name} = .*: give total_steps"))
    told += [
        ({**endless, "trials": "systematic"}, ValueError, r"^trials = 'systematic' depend"),
        ({**endless, "seed": 2**64}, DomainError, r"seed"),
        ({**endless, "schedule": FromExpression("2 - t")}, DomainError, r"probability p.*got 2.0 at t = 0"),
    ]
    for changed, error, text in told:
        with pytest.raises(error, match=text) as raised:
            plan(**changed)
        assert "XX" not in str(raised.value)
    later = plan(**endless | {"schedule": FromExpression("(t + 1) / 4")})
    assert later.at("schedule", 3) == 1
    with pytest.raises(DomainError, match=r"probability p.*got 1.25 at t = 4"):
        later.at("schedule", 4)


def test_numbers_and_arrays_are_the_schedules_that_they_are():
    kept = Periodic(3)
    assert as_schedule("rho", kept) is kept
    assert as_schedule("rho", 0.5) == Constant(0.5) and as_schedule("rho", [0.5]) == Tabulated((0.5,))
    assert as_schedule("rho", np.array([1, 2])) == Tabulated((1.0, 2.0))
    assert checked("rho", FromExpression("t / 2"), 3) == 1.5
    with pytest.raises(DomainError, match=r"probability p.*got 1.5 at t = 3"):
        checked("schedule", FromExpression("t / 2"), 3)


def test_settings_that_differ_are_named():
    ours = {"a": 1, "b": [2]}
    require_same(ours, dict(ours))
    for saved, text in [
        ({"a": 1, "b": [3]}, r"saved state has b = \[3\], this optimizer has b = \[2\]"),
        ({"a": 1}, r"the saved state has no 'b'"),
        ({"a": 1, "b": [2], "c": 3}, r"this optimizer has no 'c'"),
        ({"a": 2, "b": [3]}, r"has a = 2"),
    ]:
        with pytest.raises(ValueError, match=text):
            require_same(ours, saved)
