"""Sharpness against the whole Hessian, computed entry by entry by another route."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import z_threshold
from torch import nn

import rst_theory as rst
from rst_theory.training import Hessian, TrainConfig, train, trained

CLOSE = 1e-3


@pytest.fixture(scope="module")
def small():
    """A network of 55 weights with its data, and its Hessian row by row."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5)).double()
    inputs, labels = torch.randn(20, 4, dtype=torch.float64), torch.randint(5, (20,))
    names = [name for name, _ in model.named_parameters()]
    weights = tuple(w.detach() for w in model.parameters())

    def loss(*values):
        outputs = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (inputs,))
        return nn.functional.cross_entropy(outputs, labels)

    every = tuple(range(len(weights)))
    blocks = torch.func.jacrev(torch.func.jacrev(loss, every), every)(*weights)
    rows = [
        torch.cat([b.reshape(w.numel(), -1) for b in row], 1) for row, w in zip(blocks, weights, strict=True)
    ]
    return model, inputs, labels, torch.cat(rows).numpy()


def test_products_are_those_of_the_matrix(small):
    model, inputs, labels, matrix = small
    hessian = Hessian(model, inputs, labels)
    assert hessian.size == len(matrix) == 55
    v = np.random.default_rng(0).standard_normal(55)
    np.testing.assert_allclose(hessian.times(v), matrix @ v, rtol=0, atol=1e-12)


def test_the_largest_eigenvalue_is_that_of_the_matrix(small):
    model, inputs, labels, matrix = small
    exact = np.linalg.eigvalsh(matrix)[-1]
    hessian = Hessian(model, inputs, labels)
    assert hessian.largest_eigenvalue(tolerance=1e-10) == pytest.approx(exact, rel=1e-9)
    assert hessian.largest_eigenvalue(seed=7) == pytest.approx(exact, rel=CLOSE)


def test_the_trace_is_within_its_error_of_the_sum_of_the_diagonal(small):
    model, inputs, labels, matrix = small
    vectors = 6000
    estimate = Hessian(model, inputs, labels).trace(vectors=vectors, seed=1)
    exact = np.trace(matrix)
    assert abs(estimate.mean - exact) <= z_threshold() * estimate.standard_error
    off_diagonal = matrix - np.diag(np.diag(matrix))
    predicted = np.sqrt(2 * (off_diagonal**2).sum() / vectors)  # Hutchinson's variance for signs
    # With a kurtosis of the quadratic form of at most 15, that of the square of one normal number.
    within = z_threshold() * math.sqrt((15 - 1) / (4 * vectors))
    assert estimate.standard_error == pytest.approx(predicted, rel=within)


def test_a_model_comes_back_as_it_was(small):
    model, inputs, labels, _ = small
    model.train()
    before = [w.detach().clone() for w in model.parameters()]
    Hessian(model, inputs, labels).largest_eigenvalue()
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(w.grad is None for w in model.parameters())


def test_a_flat_loss_has_no_sharpness():
    model = nn.Linear(3, 1, bias=False)  # the cross-entropy of one class is 0
    hessian = Hessian(model, torch.randn(5, 3), torch.zeros(5, dtype=torch.int64))
    assert hessian.largest_eigenvalue() == 0 and hessian.trace(5) == (0, 0)


def test_what_has_no_hessian_is_refused(small):
    model, inputs, labels, _ = small
    with pytest.raises(ValueError, match="at least one example"):
        Hessian(model, inputs[:0], labels[:0])
    with pytest.raises(ValueError, match="must be finite"):
        Hessian(model, inputs * torch.inf, labels)
    with pytest.raises(ValueError, match="one type"):
        Hessian(nn.Identity(), inputs, labels)


def test_a_trained_network_is_the_one_that_its_record_tells_of(tmp_path):
    config = TrainConfig(rst.Constant(0.5), epochs=1, seed=4, test_size=100)
    record = train(config, tmp_path, threads=1)
    model, split = trained(config, tmp_path)
    assert not model.training and len(split.test_labels) == 897
    right = model(split.test_inputs.float()[:100]).argmax(1) == split.test_labels[:100]
    assert right.float().mean().item() == pytest.approx(record.final_test_accuracy, abs=1e-7)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        trained(config, tmp_path / "elsewhere")


@pytest.mark.parametrize("size", [0, 898, 1.5])
def test_a_part_of_the_test_examples_is_a_part(size):
    with pytest.raises((ValueError, TypeError), match="test_size"):
        TrainConfig(rst.Constant(0.5), test_size=size)
