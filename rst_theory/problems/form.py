"""How a problem plugs into the compiling engines: its formulas, as functions that can be compiled.

A form holds plain Python functions of numbers and arrays, written in what Numba compiles (arithmetic,
comparisons, `a if c else b`, the scalar functions of `math` and NumPy, loops over `range`, indexing), and
the arrays that they read. Nothing here imports a compiler: an engine compiles what it is given. They call
other functions only as `compiled.compilable` makes them.

Symbol key: d the dimension, R points, n the rows of the data behind f, b the size of a minibatch. The
functions know nothing of Gaussian noise (`Problem.noise`), which an engine adds itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Data: TypeAlias = tuple[npt.NDArray[Any], ...]
"""What the functions of a form read: arrays, float64 or int64, C-contiguous."""


@dataclass(frozen=True)
class Separable:
    """f(x) = sum_i phi_i(x_i).

    Attributes:
        value: phi_i(u), as value(u, i, data), a number.
        derivative: phi_i'(u), as derivative(u, i, data), a number.
        data: handed to all.
        curvature: phi_i'' where it is constant, as curvature(i, data); None for problems that are not
            quadratic. It says nothing new, but lets an engine fold the second gradient into the first.
    """

    value: Callable[[Any, Any, Any], Any]
    derivative: Callable[[Any, Any, Any], Any]
    data: Data
    curvature: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True)
class Coupled:
    """Several points side by side: x of shape (d, lanes), the innermost loops over the lanes.

    A call may allocate a few arrays to work in, of a size that the caches hold.

    Attributes:
        value: value(x, out, data) writes f of each column into out, shape (lanes,).
        gradient: gradient(x, g, data) writes the gradients into g, shape (d, lanes).
        data: handed to all three.
        rows: n, where the noise is a minibatch of rows; else 0.
        batch: b, likewise.
        sampled_gradient: sampled_gradient(x, g, indices, data) writes the gradients of the minibatches
            into g; indices int64 (b, lanes), all in [0, n). None where there are no minibatches.
    """

    value: Callable[[Any, Any, Any], None]
    gradient: Callable[[Any, Any, Any], None]
    data: Data
    rows: int = 0
    batch: int = 0
    sampled_gradient: Callable[[Any, Any, Any, Any], None] | None = None


@dataclass(frozen=True)
class Plain:
    """A user's own functions of one point x, shape (d,).

    Attributes:
        value: f(x), a number.
        gradient: grad f(x), float64 (d,).
        data: empty.
    """

    value: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    data: Data = ()


Form: TypeAlias = Separable | Coupled | Plain


class InTorch(NamedTuple):
    """The formulas on torch tensors: x of shape (R, d).

    Attributes:
        value: f of each row, shape (R,).
        gradient: its gradients, shape (R, d).
        rows: n, where the noise is a minibatch of rows; else 0.
        batch: b, likewise.
        sampled_gradient: sampled_gradient(x, indices), the gradients of the minibatches; indices int64
            (R, b), all in [0, n). None where there are no minibatches.
    """

    value: Callable[[torch.Tensor], torch.Tensor]
    gradient: Callable[[torch.Tensor], torch.Tensor]
    rows: int = 0
    batch: int = 0
    sampled_gradient: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
