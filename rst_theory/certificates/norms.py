"""Normalized ascent: branch and bound over the gradient norms at the perturbed points.

With y = x + rho u, g = n u, |u| = 1, the program is linear in the Gram matrix once every norm n is fixed:
that gives lower bounds. For a <= n <= b the inequalities

    |u|^2 <= 1,   n = <u, g>,   |g|^2 <= (a + b) n - a b

hold and are linear too; they leave |g - n u|^2 <= (n - a)(b - n), so the upper bounds that they give meet
the lower ones as the boxes shrink. Proof: `paper_notes/certificates.md#normalized`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from rst_theory.certificates.interpolant import Interpolant
from rst_theory.certificates.program import CertificateError, Linear, Solution, product
from rst_theory.certificates.question import Question
from rst_theory.certificates.tree import Tree
from rst_theory.method import step
from rst_theory.notation import DomainError, FloatArray

__all__ = ["EXACT", "Answer", "answer", "coordinates", "meet", "search"]

EXACT = 1e-4
"""Two bounds of a worst case that differ by no more than this, relatively, are one number."""

_LOOSE = 1e-4  # |g|^2 - n^2 below this, in units of the data, is almost none
_RANK = 1e-10  # eigenvalues of the Gram matrix below this part of the largest are rounding

_PROGRAMS = {1: 300, 2: 100, 3: 100}  # boxes, by the number of norms; of more norms the first box alone

Box: TypeAlias = "dict[str, tuple[float, float]]"


class Answer(NamedTuple):
    """Bounds of the worst case, and the program that attains the lower one."""

    upper: float
    lower: float
    tree: Tree
    solution: Solution


def answer(question: Question, norms: dict[str, float] | None = None) -> Answer:
    """The answer of one program: unnormalized ascent, or every norm given.

    Raises:
        CertificateError: the program has no solution.
    """
    tree = question.tree(norms)
    program = question.program(tree)
    for u in tree.ascents.values():
        u = u[: tree.used]
        program.equal(Linear(product(u, u), np.zeros(program.points)), 1.0)
    solution = program.solve()
    if solution is None:
        raise CertificateError("no function of the class satisfies the conditions")
    return Answer(solution.value, solution.primal_value, tree, solution)


def search(question: Question, programs: int | None) -> Answer:
    """The best bounds that a number of programs gives, over the box of all possible gradient norms.

    Raises:
        CertificateError: the program of the whole box, or every program with fixed norms, failed.
    """
    whole = _possible(question)
    if not whole:
        return answer(question)
    budget = _PROGRAMS.get(len(whole), 1) if programs is None else programs
    root = _relaxed(question, whole)
    if root is None:
        raise CertificateError("no function of the class satisfies the conditions")
    best = _better(None, question, root)
    open_boxes, order = [(-root.upper, 0, whole, root.norms)], itertools.count(1)
    for _ in range(budget - 1):
        if not open_boxes or (best and meet(-open_boxes[0][0], best.lower)):
            break
        upper, _, box, norms = heapq.heappop(open_boxes)
        for half in _halves(box, norms):
            try:
                found = _relaxed(question, half)
            except CertificateError:  # not converged: what bounds the whole bounds the half
                middle = {name: (a + b) / 2 for name, (a, b) in half.items()}
                heapq.heappush(open_boxes, (upper, next(order), half, middle))
                continue
            if found is not None and (best is None or found.upper > best.lower):
                best = _better(best, question, found)
                heapq.heappush(open_boxes, (-found.upper, next(order), half, found.norms))
    if best is None:
        raise CertificateError("the solver did not converge for any gradient norms")
    upper = max(best.lower, -open_boxes[0][0] if open_boxes else -math.inf)
    return best._replace(upper=upper, lower=min(best.lower, _attained(question, best)))


def meet(upper: float, lower: float) -> bool:
    """Whether two bounds of a worst case are one number, to `EXACT`."""
    return upper - lower <= EXACT * (abs(upper) + EXACT)


class Relaxed(NamedTuple):
    """The bound over a box, the norms n = <u, g> at which the program attains it, and its solution."""

    upper: float
    norms: dict[str, float]
    tree: Tree
    solution: Solution


def _relaxed(question: Question, box: Box) -> Relaxed | None:
    """The program with every norm in an interval; None where it has no solution."""
    tree = question.tree()
    program = question.program(tree)
    none = np.zeros((1, program.points))
    inner: dict[str, Linear] = {}
    for k, u in tree.ascents.items():
        u, g = u[: tree.used], tree.gradients[k][: tree.used]
        name, (a, b) = tree.labels[k], box[tree.labels[k]]
        n, square = product(u, g)[None], product(g, g)[None]
        program.at_most([f"unit {name}"], Linear(product(u, u)[None], none), 1.0)
        program.at_most([f"norm {name} >="], Linear(-n, none), -a)
        program.at_most([f"norm {name} <="], Linear(n, none), b)
        program.at_most([f"secant {name}"], Linear(square - (a + b) * n, none), -a * b)
        inner[name] = Linear(n[0], none[0])
    solution = program.solve()
    if solution is None:
        return None
    norms = {name: float(np.clip((n.M * solution.gram).sum(), *box[name])) for name, n in inner.items()}
    return Relaxed(solution.value, norms, tree, solution)


def _better(best: Answer | None, question: Question, found: Relaxed) -> Answer | None:
    """The better of the best answer so far and those near the solution of a relaxed program.

    Its norms n = <u, g> are tried where one norm is sought, which is possible for some function, or where the
    solution almost has g = n u; and those that the method meets on the function that the solution describes.
    """
    tree, b = found.tree, found.tree.used
    g = np.array([tree.gradients[k][:b] for k in tree.ascents])
    looseness = np.diag(g @ found.solution.gram @ g.T) - np.square(list(found.norms.values()))
    tries: list[Callable[[], dict[str, float]]] = []
    if len(g) == 1 or looseness.max() < _LOOSE:
        tries.append(lambda: found.norms)
    if len(g) > 1:
        tries.append(lambda: _met(question, found))
    for norms in tries:
        try:
            candidate = answer(question, norms())
        except CertificateError:  # not converged: no lower bound from here
            continue
        best = candidate if best is None or candidate.lower > best.lower else best
    return best


def _met(question: Question, found: Relaxed) -> dict[str, float]:
    """The gradient norms at the perturbed points when the method runs on a worst function."""
    f = _rebuilt(question, found.tree, found.solution)
    return {name: float(np.linalg.norm(f.gradient(_reached(question, f, name[1:])))) for name in found.norms}


def _attained(question: Question, found: Answer) -> float:
    """The metric when the method runs on the worst function: where norms vanish it may fall short."""
    try:
        f = _rebuilt(question, found.tree, found.solution)
    except CertificateError:
        return -math.inf
    minimizer = f.points[found.tree.labels.index("*")] if "*" in found.tree.labels else np.zeros(f.dimension)
    measure: dict[str, Callable[[FloatArray], float]] = {
        "squared_gradient_norm": lambda x: float((f.gradient(x) ** 2).sum()),
        "gap": lambda x: float(f.value(x)),
        "squared_distance": lambda x: float(((x - minimizer) ** 2).sum()),
    }
    total = 0.0
    for t in np.flatnonzero(question.weights):
        for trials in itertools.product((False, True), repeat=int(t)):
            chance = float(np.prod(np.where(trials, question.run.p[:t], 1 - question.run.p[:t])))
            if chance > 0:
                path = "".join("01"[trial] for trial in trials)
                total += (
                    question.weights[t] * chance * measure[question.quantity](_reached(question, f, path))
                )
    return total


def _rebuilt(question: Question, tree: Tree, solution: Solution) -> Interpolant:
    """The function that a solution describes; f* = 0.

    Raises:
        CertificateError: the solution is not accurate enough to be one.
    """
    points, gradients = coordinates(solution.gram, tree)
    try:
        return Interpolant(
            points,
            gradients,
            solution.values,
            L=1.0,
            curvature=question.family.curvature,
            start=points[tree.labels.index("x")],
        )
    except DomainError as error:
        raise CertificateError(f"the solution is no function: {error}") from error


def _reached(question: Question, f: Interpolant, path: str) -> FloatArray:
    """The iterate after the trials of a path such as "01"."""
    run = question.run
    x = np.asarray(f.start)
    for trial, eta, rho, gamma in zip(path, run.eta, run.rho, run.gamma, strict=False):
        x = step(x, f.gradient, trial == "1", float(eta), float(rho), float(gamma))
    return x


def _halves(box: Box, norms: dict[str, float]) -> tuple[Box, Box]:
    """The box cut where the relaxation is loosest: (n - a)(b - n) is what it grants."""
    name = max(box, key=lambda k: (norms[k] - box[k][0]) * (box[k][1] - norms[k]))
    a, b = box[name]
    n = norms[name]
    cut = n if 0.1 * (b - a) < n - a < 0.9 * (b - a) else (a + b) / 2
    return box | {name: (a, cut)}, box | {name: (cut, b)}


def _possible(question: Question) -> Box:
    """For every perturbed point the interval [0, b] of its possible gradient norms.

    One step gives G+ <= G + eta (G + gamma rho), and by the descent lemma f(x+) - f(x) <= -a G^2 + u G + c
    with u = eta gamma |1 - eta| rho and c = eta^2 gamma^2 rho^2/2; and G^2 <= 2 (f - f*).
    """
    run, tree = question.run, question.tree()
    start = question.start
    gap = min(
        math.inf if start.gap is None else start.gap,
        math.inf if start.distance is None else start.distance**2 / 2,
    )
    largest = [math.sqrt(2 * gap)]
    for eta, rho, gamma in zip(run.eta, run.rho, run.gamma, strict=True):
        G, a = largest[-1], eta * (1 - eta / 2)
        u, c = eta * gamma * abs(1 - eta) * rho, (eta * gamma * rho) ** 2 / 2
        peak = min(G, u / (2 * a)) if a > 0 else G
        gap += max(0.0, c + max(-a * n * n + u * n for n in (peak, G)))
        largest.append(min(math.sqrt(2 * gap), G + eta * (G + gamma * rho)))
    labels = [tree.labels[k] for k in tree.ascents]
    return {label: (0.0, float(largest[len(label) - 1])) for label in labels}


def coordinates(gram: FloatArray, tree: Tree) -> tuple[FloatArray, FloatArray]:
    """Points and gradients, float64 (n, d) each, whose scalar products are those of the Gram matrix."""
    size, axes = np.linalg.eigh(gram)
    kept = size > _RANK * max(size[-1], _RANK)
    kept[-1] = True  # at least one dimension
    basis = axes[:, kept] * np.sqrt(np.maximum(size[kept], 0.0))
    x, g = tree.coefficients()
    return x @ basis, g @ basis
