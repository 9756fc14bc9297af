"""A smaller run beside the committed tables: does it reproduce them?

Rows are matched by their keys. An exact value must agree to 1e-9 relative. A value with an interval is an
estimate: where the number of repetitions is known, n of the smaller run and N of the full one, the standard
deviation s of one repetition is that of the full run, and

    (smaller - full) / (s sqrt(1/n + 1/N))

is compared with the t distribution of N - 1 degrees of freedom; else both intervals give standard errors
whose squares add. Repetitions that both runs share only make the difference smaller. The probability that any
comparison of the whole recheck fails though nothing has changed is at most 1e-6 (Bonferroni), for normal
repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from experiments.question import Check
from experiments.settings import CONFIDENCE
from rst_theory.files import read_table

__all__ = ["FALSE_ALARM", "MismatchError", "recheck"]

FALSE_ALARM = 1e-6
EXACT = 1e-9
Row = dict[str, Any]


class MismatchError(ValueError):
    """A smaller run that is no part of the full one: rows that it does not have, or too few repetitions."""


class _Compared(NamedTuple):
    check: Check
    key: tuple[Any, ...]
    fresh: float
    committed: float
    p_value: float


def recheck(checks: Sequence[Check], fresh: Path, committed: Path) -> list[Row]:
    """A row for each check: how many values were compared, how many disagree, and the worst of them.

    Args:
        checks: tables that the smaller run has not written are skipped.
        fresh: the folder of the smaller run's tables.
        committed: that of the full run's.

    Raises:
        MismatchError: the tables cannot be compared.
        FileNotFoundError: a committed table is not there.
    """
    present = [check for check in checks if (fresh / f"{check.table}.json").exists()]
    compared = [list(_compare(check, fresh, committed)) for check in present]
    level = FALSE_ALARM / max(sum(map(len, compared)), 1)
    return [_summary(check, found, level) for check, found in zip(present, compared, strict=True)]


def _compare(check: Check, fresh: Path, committed: Path) -> list[_Compared]:
    full: dict[tuple[Any, ...], Row] = {}
    for row in read_table(committed / f"{check.table}.json"):
        if full.setdefault(_key(check, row), row) is not row:
            raise MismatchError(f"{check.table}: two rows of {_key(check, row)}")
    found = []
    for row in read_table(fresh / f"{check.table}.json"):
        key = _key(check, row)
        if key not in full:
            raise MismatchError(f"{check.table}: the committed table has no row {key}")
        mine, theirs = row[check.value], full[key][check.value]
        if mine is None or theirs is None:
            found.append(_Compared(check, key, math.nan, math.nan, float(mine == theirs)))
            continue
        found.append(_Compared(check, key, mine, theirs, _p_value(check, row, full[key])))
    return found


def _key(check: Check, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in check.keys)


def _p_value(check: Check, fresh: Row, committed: Row) -> float:
    """Of the hypothesis that both rows measure one thing; 0 or 1 for exact values."""
    difference = fresh[check.value] - committed[check.value]
    if check.interval is None:
        scale = max(abs(fresh[check.value]), abs(committed[check.value]))
        return float(abs(difference) <= EXACT * scale)
    if difference == 0:
        return 1.0
    if check.repetitions is None:
        error = math.hypot(*(_half(check, row) for row in (fresh, committed)))
        error /= stats.norm.isf((1 - CONFIDENCE) / 2)
        return float(2 * stats.norm.sf(abs(difference) / error)) if error else 0.0
    n, many = fresh[check.repetitions], committed[check.repetitions]
    if many < 2 or n < 1:
        raise MismatchError(f"{check.table}: {check.repetitions} must be at least 1, and 2 in the full run")
    one = _half(check, committed) / stats.t.isf((1 - CONFIDENCE) / 2, many - 1) * math.sqrt(many)
    error = one * math.sqrt(1 / n + 1 / many)
    return float(2 * stats.t.sf(abs(difference) / error, many - 1)) if error else 0.0


def _half(check: Check, row: Row) -> float:
    assert check.interval is not None
    low, high = (row[end] for end in check.interval)
    return float(high - low) / 2


def _summary(check: Check, found: Sequence[_Compared], level: float) -> Row:
    worst = min(found, key=lambda one: one.p_value)
    return {
        "table": check.table,
        "value": check.value,
        "compared": len(found),
        "disagree": sum(one.p_value < level for one in found),
        "least_p": worst.p_value,
        "level": level,
        "worst": ", ".join(map(str, worst.key)),
        "fresh": None if math.isnan(worst.fresh) else worst.fresh,
        "committed": None if math.isnan(worst.committed) else worst.committed,
    }
