"""How sharp a minimum is: the Hessian of a loss through its products with vectors.

H = D^2 F(w),  F(w) = mean loss over given examples;  H v = D (D F(w) . v)

lambda_max   the largest eigenvalue, by the Lanczos method (ARPACK, through SciPy)
tr H         = E z'Hz for independent signs z_i = -1, 1 (Hutchinson, 1989)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rst_theory.notation import FloatArray, natural

__all__ = ["Hessian", "Trace"]


class Trace(NamedTuple):
    """An estimate of a trace: the mean over random vectors, and its standard error."""

    mean: float
    standard_error: float


class Hessian:
    """The Hessian of the mean cross-entropy of a network on some examples, at its weights.

    Args:
        model: called in evaluation mode; its weights must be of one floating type, and stay as they are while
            this is in use.
        inputs: the examples, as the model takes them.
        labels: int64 (n,).

    Raises:
        ValueError: no examples, weights of several types, or a loss that is not finite.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
        self._weights = [w for w in model.parameters() if w.requires_grad]
        if len({w.dtype for w in self._weights}) != 1:
            raise ValueError("the weights must be of one type, and there must be some")
        if len(labels) == 0:
            raise ValueError("a Hessian needs at least one example")
        training = model.training
        model.eval()
        try:
            with torch.enable_grad():
                loss = nn.functional.cross_entropy(model(inputs), labels)
                if not loss.isfinite():
                    raise ValueError(f"the loss must be finite; it is {loss.item()}")
                gradients = torch.autograd.grad(loss, self._weights, create_graph=True)
                self._gradient = torch.cat([g.reshape(-1) for g in gradients])
        finally:
            model.train(training)
        self.size = self._gradient.numel()

    def times(self, vector: FloatArray) -> FloatArray:
        """H v; both float64 (size,)."""
        v = torch.as_tensor(vector).to(self._gradient)
        if not self._gradient.requires_grad:  # a loss that is linear in the weights
            return np.zeros(self.size)
        parts = torch.autograd.grad(
            self._gradient, self._weights, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return np.asarray(torch.cat([part.reshape(-1) for part in parts]).double().cpu().numpy())

    def largest_eigenvalue(self, tolerance: float = 1e-3, seed: int = 0) -> float:
        """lambda_max, to a relative tolerance; the seed draws the first vector.

        Raises:
            RuntimeError: Lanczos did not converge.
        """
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

        start = np.random.default_rng(natural("seed", seed)).standard_normal(self.size)
        if self.size == 1:
            return float(self.times(np.ones(1))[0])
        if not self.times(start).any():
            return 0.0
        operator = LinearOperator((self.size, self.size), matvec=self.times, dtype=np.float64)
        try:
            value = eigsh(
                operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False, maxiter=1000
            )
        except ArpackNoConvergence as error:
            raise RuntimeError(
                f"Lanczos found no largest eigenvalue to within {tolerance}: {error}"
            ) from error
        return float(value[0])

    def trace(self, vectors: int = 30, seed: int = 0) -> Trace:
        """The trace of H from this many random vectors, at least 2."""
        draw = np.random.default_rng(natural("seed", seed))
        samples = []
        for _ in range(natural("vectors", vectors, least=2)):
            z = draw.choice(np.array([-1.0, 1.0]), self.size)
            samples.append(float(z @ self.times(z)))
        return Trace(float(np.mean(samples)), float(np.std(samples, ddof=1) / np.sqrt(vectors)))
