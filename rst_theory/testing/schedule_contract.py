"""The contract of a schedule, and the check that a user runs on a schedule of their own."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from rst_theory.notation import natural
from rst_theory.schedules import FAMILIES, Schedule, from_dict
from rst_theory.testing.contract import Examples, Promise, is_strategy, keep
from rst_theory.testing.exact import EXACT_FORMS
from rst_theory.testing.law import LAWS
from rst_theory.testing.lengths import fitting_steps
from rst_theory.testing.numeric import HORIZON, PROBABILITIES, SAME_ANSWER, of_range

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["check_schedule"]


def check_schedule(
    schedule: Schedule | type[Schedule] | SearchStrategy[Schedule],
    *,
    probability: bool = True,
    steps: Iterable[int] | None = None,
    max_examples: int = 50,
    skip: Collection[str] = (),
) -> None:
    """Check the whole contract of a schedule; nothing where it holds.

    The promises, by the names that `skip` takes:
        values: `values(T)` is float64 (T,), each finite and nonnegative, and at most 1 for a probability.
        same answer: a value depends on t and T alone, not on what was asked before, nor on who wrote into an
            array that was returned; `at(t, T)` is `values(T)[t]`.
        horizon: where `has_horizon` is False a value does not depend on T.
        expression: `expression(t, T)`, at integers and in symbols, is the value to 1e-10 of the largest one.
        mean: `mean(T)` is the average of the values to as much, and of the expression to 1e-20; in the
            symbol T too, for T >= 2, where that is no unevaluated sum.
        limit: `mean()` is what the average tends to: at T = 10^6 it is 1e-4 of the largest value away, or
            nearer by a tenth than at T = 10^4. A schedule that has no limit, or none that SymPy finds, raises
            a `DomainError` or `ValueError`. Not for schedules that take more than 10^6 steps to settle.
        plain dict: `to_dict()` is JSON, holds every field, and for the families of the package comes back.
        equality: a copy is equal, with an equal hash; nothing can be set; all parameters are fields; the
            repr is one line with the name of the class.
        probabilities: `probabilities(T)` is `values(T)`; this and the following where p(t) is meant.
        cost: mean, variance and probabilities of `CostLaw` are those of all outcomes, one by one, T <= 6.
        closed form: so are its exact mean and variance.
        trials: in 2,000 runs of `Trials` the heads at each t, and the runs with k heads, are as many as the
            law says, by exact binomial tests. The expression is compared before, so this speaks of p(t).

    Args:
        schedule: a schedule; or a class of them, made from random fields (of type float, int or Schedule);
            or a strategy, for anything else: `check_schedule(st.builds(Mine, h=st.floats(0, 8)))`.
        probability: whether it is used as p(t), so that its values lie in [0, 1].
        steps: the numbers of steps T; unless given, 1 to 8, 12 and 25, or the first that fits.
        max_examples: how many schedules are tried for each promise, of a class or a strategy.
        skip: names of promises.

    Raises:
        ContractViolation: an AssertionError that names every broken promise and its smallest example.
        TypeError: not a schedule, a class or a strategy; a class whose fields no strategy is known for.
        ValueError: no number of steps fits, or an unknown name to skip.
        ImportError: a class or strategy is given and Hypothesis is absent: `rst-theory[testing]`.

    The tests of `trials` are statistical: a schedule that is right fails with probability at most 1e-9 a
    call, over the seeds of the coins. These are fixed, and so are the examples for one version of Hypothesis
    and of the code: a verdict does not change from run to run.
    """
    examples, subject = _examples(schedule, steps, probability)
    values = of_range(1.0 if probability else math.inf)
    forms = [HORIZON, *EXACT_FORMS, *_AS_A_VALUE]
    of_p = [[PROBABILITIES], LAWS] if probability else []
    keep(subject, [[values], [SAME_ANSWER], forms, *of_p], examples, max_examples, skip)


def _examples(schedule: Any, steps: Iterable[int] | None, probability: bool) -> tuple[Examples, str]:
    lengths = None if steps is None else [natural("steps", T, least=1) for T in steps]
    if isinstance(schedule, Schedule):
        if schedule.free_symbols:
            raise TypeError(f"{schedule!r} has free symbols; the contract is of numbers")
        return [(schedule, T) for T in fitting_steps(schedule, lengths)], type(schedule).__name__
    if not is_strategy(schedule) and not (isinstance(schedule, type) and issubclass(schedule, Schedule)):
        raise TypeError(f"a schedule, a class of them, or a strategy that makes them; got {schedule!r}")
    from rst_theory.testing.strategies import instances, runs_of

    if is_strategy(schedule):
        return runs_of(schedule, lengths), "a schedule"
    made = instances(schedule, max_value=1.0 if probability else 10.0)
    return runs_of(made, lengths), schedule.__name__


def _plain_dict(schedule: Schedule) -> str | None:
    plain = schedule.to_dict()
    back = json.loads(json.dumps(plain, allow_nan=False))
    if back != plain:
        return f"to_dict() is {plain}, and after JSON {back}"
    fields = {field.name for field in dataclasses.fields(schedule)}
    if missing := sorted(fields - {*plain}):
        return f"to_dict() is {plain}, without {', '.join(missing)}"
    family = plain.get("family")
    if family != type(schedule).__name__:
        return f"to_dict() names the family {family!r}"
    if FAMILIES.get(family) is type(schedule) and from_dict(back) != schedule:
        return f"from_dict(to_dict()) is {from_dict(back)!r}"
    return None


def _equality(schedule: Schedule) -> str | None:
    fields = [field.name for field in dataclasses.fields(schedule)]
    if strangers := [key for key in vars(schedule) if key not in fields and not key.startswith("_")]:
        return (
            f"{', '.join(strangers)} is no field, so that schedules with different ones are equal: "
            "decorate the class with @dataclass(frozen=True, repr=False) and declare it"
        )
    for name, twin in (("deepcopy", copy.deepcopy(schedule)), ("replace", dataclasses.replace(schedule))):
        if twin != schedule or hash(twin) != hash(schedule):
            return f"a copy, by {name}, is not equal with an equal hash"
    for field in fields[:1]:
        try:
            setattr(copy.deepcopy(schedule), field, getattr(schedule, field))
        except AttributeError:
            continue
        return f"its field {field} can be set: the class must be frozen"
    text = repr(schedule)
    if type(schedule).__name__ not in text or "\n" in text:
        return f"the repr is {text!r}"
    return None


_AS_A_VALUE = (
    Promise("plain dict", "to_dict() holds the schedule, in JSON", _plain_dict),
    Promise("equality", "a schedule is a frozen value", _equality),
)
