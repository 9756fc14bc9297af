"""The arithmetic of the optimizer, part by part: lists, lengths, ascents, moves, mixtures."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import NUMERIC, ONE_STEP
from torch import nn

from rst_theory.optim import ascent, lengths, mixture
from rst_theory.optim.lists import by_device_and_type, copy_all
from rst_theory.optim.perturbation import Move, Perturbation

F64 = torch.float64


def f64(*values):
    return torch.tensor(values, dtype=F64)


def sparse(*values, at=None, size=6):
    places = list(range(len(values))) if at is None else at
    return torch.sparse_coo_tensor([places], list(values), (size,), dtype=F64, check_invariants=True)


class Spread(torch.Tensor):
    """Stands in for a distributed tensor: an ordinary one that says how it is spread over processes."""

    @staticmethod
    def of(values, *kinds, groups=("rows", "columns")):
        tensor = torch.Tensor._make_subclass(Spread, values)
        tensor.inner = values
        tensor.placements = [SimpleNamespace(**_KINDS[kind]) for kind in kinds]
        tensor.device_mesh = SimpleNamespace(get_group=lambda i: groups[i])
        return tensor

    def to_local(self):
        return self.inner

    def redistribute(self, placements):
        return ("redistributed", placements)


_KINDS = {
    "shard": {"is_partial": lambda: False, "is_replicate": lambda: False},
    "replica": {"is_partial": lambda: False, "is_replicate": lambda: True},
    "partial": {"is_partial": lambda: True, "is_replicate": lambda: False},
}


@pytest.fixture
def spread(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed.tensor", SimpleNamespace(DTensor=Spread))
    return Spread.of


def refused(call, *lists, **options):
    with pytest.raises(ValueError, match="zip"):
        call(*lists, **options)


# ---- lists


def test_tensors_are_put_together_by_device_and_type_in_their_order():
    a, b, c, d = torch.zeros(1), f64(1), torch.zeros(2), torch.zeros(1, device="meta")
    found = by_device_and_type([a, b, c, d])
    assert [[id(t) for t in group] for group in found] == [[id(a), id(c)], [id(b)], [id(d)]]
    sources, targets = [f64(1, 2), torch.ones(3)], [f64(0, 0), torch.zeros(3)]
    copy_all(sources, targets)
    assert targets[0].tolist() == [1, 2] and targets[1].tolist() == [1, 1, 1]
    refused(copy_all, sources, targets[:1])
    refused(copy_all, sources[:1], targets)


# ---- lengths


def exact(*tensors):
    """In the 64 bits of a long double, whose range is wider."""
    entries = np.concatenate([t.detach().double().numpy().ravel() for t in tensors]).astype(np.longdouble)
    return float(np.sqrt((entries**2).sum()))


def close(found, expected, tolerance):
    return abs(float(found) - expected) <= tolerance * expected


def test_a_length_is_the_root_of_the_sum_of_squares_whatever_the_tensors(spread, monkeypatch):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape, dtype=F64):
        return torch.randn(*shape, generator=generator, dtype=F64).to(dtype)

    long, plane = normal(2**15 + 4099), normal(2, 3, 80, 80).to(memory_format=torch.channels_last)
    gaps = normal(300, 300)[:, ::2]
    several = [normal(3), normal(4, 5), normal(2**15), long, normal(0, 3), normal(()), normal(2**15, 2)]
    cases = [
        *([t] for t in several if t.numel()),
        several,
        [plane],
        [normal(200, 300).t()],
        [gaps],
        [gaps.t()],
    ]
    for tensors in cases:
        for dtype, tolerance in ((F64, NUMERIC), (torch.float32, 1e-6), (torch.bfloat16, NUMERIC)):
            cast = [t.to(dtype) for t in tensors]
            assert close(lengths.length(cast), exact(*cast), tolerance)
            assert close(lengths._on_device(cast), exact(*cast), tolerance)
    mixed = [normal(3), normal(4, dtype=torch.float32), normal(5, dtype=torch.float16)]
    assert close(lengths.length(mixed), exact(*mixed), 1e-7)
    assert close(lengths._on_device(mixed), exact(*mixed), 1e-7)
    complex_ = torch.tensor([3 + 4j, 12j])
    assert lengths.length([complex_]) == lengths.length([complex_.conj()]) == 13
    assert lengths.length([sparse(3.0, 4.0), f64(12)]) == 13
    twice = sparse(1.0, 2.0, at=[0, 0])  # entries of one place add up
    assert lengths.length([twice]) == 3
    far = spread(f64(3, 4), "replica")
    assert lengths.length([far, f64(12)]) == 13
    monkeypatch.setattr(lengths, "gathered", lambda number, groups: [number, 12.0] if groups else [number])
    assert lengths.length([spread(f64(3, 4), "shard")]) == 13  # another process holds a length of 12
    assert all(type(lengths.length(t)) is float for t in ([far], [complex_], [twice], mixed))
    assert lengths.length([]) == 0 and lengths.length([torch.empty(0)]) == 0
    assert lengths._on_device([torch.empty(0), torch.empty(0)]).dtype == F64


def test_a_long_sum_of_single_precision_keeps_its_digits():
    ones = torch.full((2**20 + 7,), 1 / 3)
    assert close(lengths.length([ones]), math.sqrt(ones.numel()) * float(ones[0]), 4e-6)
    gaps = torch.full((2**18, 2), 1 / 3)[:, 0]
    assert close(lengths.length([gaps]), 512 * float(gaps[0]), 4e-6)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_lengths_keep_within_the_floating_range(dtype):
    limits = torch.finfo(dtype)
    low, high = math.sqrt(limits.tiny) / limits.eps, limits.max / 8
    lossy = 3 * math.sqrt(limits.tiny * limits.eps)  # its square has few digits left
    for size in (limits.tiny, lossy, low / 1e6, low / 3, low, 3 * low, 1.0, 2.0, math.sqrt(limits.max), high):
        row = torch.tensor([3 * size, -4 * size], dtype=dtype) / 5
        for tensors in ([row], [row[:1], row[1:].clone()], [row, torch.zeros(2, dtype=dtype)]):
            assert close(lengths.length(tensors), exact(*tensors), 4 * limits.eps)
            assert close(lengths._on_device(tensors), exact(*tensors), 4 * limits.eps)
    assert lengths._least_safe(dtype) == pytest.approx(low, rel=ONE_STEP, abs=0)
    for bad in (math.inf, -math.inf, math.nan):
        found = [f(2 * [torch.tensor([1.0, bad], dtype=dtype)]) for f in (lengths.length, lengths._on_device)]
        assert not any(math.isfinite(float(size)) for size in found)
    zeros = [torch.zeros(2, dtype=dtype), torch.zeros(1, dtype=dtype)]
    assert lengths.length(zeros) == 0 == lengths._on_device(zeros)


def test_lengths_on_a_device_stay_there():
    meta = [torch.zeros(3, device="meta", dtype=t) for t in (F64, torch.float32, torch.bfloat16)]
    assert lengths.length(meta).is_meta and lengths.length(meta[:1]).shape == ()
    assert lengths.length(meta[1:2]).dtype == F64
    assert lengths.length([torch.zeros(0, device="meta")]).is_meta
    assert lengths._together(f64(3, 4)) == 5 and lengths._together(f64(-7)) == -7
    assert lengths._unit(f64(0.5, 0.25)) == 0.5 and lengths._unit(f64(0)) == 1 == lengths._unit(f64(math.inf))


# ---- the ascent


def test_the_factor_of_the_ascent_is_its_formula():
    for as_tensor in (False, True):
        factor_is_its_formula(as_tensor)


def factor_is_its_formula(as_tensor):
    for kind in ("normalized", "unnormalized"):
        for clip in (None, 0.5, 3.0):
            for scale in (1.0, 8.0):
                for size in (0.0, 0.25, 2.0, 1e30, math.inf, math.nan):
                    if not math.isfinite(size) or size == 0:
                        expected = 0.0
                    elif kind == "normalized":
                        expected = 0.3 / size
                    else:
                        expected = 0.3 / scale * (1.0 if clip is None else min(1.0, clip * scale / size))
                    given = torch.tensor(size, dtype=F64) if as_tensor else size
                    found = ascent._factor(0.3, given, kind, clip, scale)
                    assert isinstance(found, torch.Tensor) == as_tensor
                    assert float(found) == pytest.approx(expected, rel=ONE_STEP, abs=0)
    if as_tensor:
        assert float(ascent._factor(1.0, f64(1e-300)[0], "normalized", None, 1.0)) == 2.0**128 - 2.0**104


def test_gradients_are_shifted_by_a_power_of_two_at_the_ends_of_the_range():
    big, small = 2.0**100, 2.0**-100
    shifts = {0.0: 1, 1.0: 1, small: 1, 1.5 * small: 1, small / 2: big, 1e-300: big}
    shifts |= {big: 1, 0.75 * big: 1, 2 * big: small, 1e300: small, 0.5: 1, 2.0: 1}
    assert {size: ascent._shift(size) for size in shifts} == shifts
    assert ascent._shift(f64(1e-300)[0]) == 1


def test_a_shift_keeps_the_scale_of_a_move_within_single_precision():
    for size in (1e-40, 1e-30, 1e30):
        x, g = torch.zeros(2), torch.tensor([3 * size, -4 * size])
        length, (move,) = ascent.ascend([ascent.Point(x, g, 0.5, False)], "normalized", 0.0, None, 1.0)
        assert 2.0**-126 < abs(move.scale) < 2.0**127
        torch.testing.assert_close(move.scale * move.vector.double(), 0.5 * g.double() / length)


def test_the_point_of_the_ascent_is_written_out_in_double_precision():
    generator = torch.Generator().manual_seed(1)
    for kind in ("normalized", "unnormalized"):
        for clip, scale, size in ((None, 1.0, 1.0), (0.5, 4.0, 1.0), (None, 2.0, 1e60), (None, 1.0, 1e-60)):
            x = [torch.randn(3, generator=generator, dtype=F64) for _ in range(3)]
            g = [size * torch.randn(3, generator=generator, dtype=F64) for _ in range(3)]
            rho, scaled = [0.1, -0.2, 0.1], [False, True, True]
            points = [ascent.Point(*p) for p in zip(x, g, rho, scaled, strict=True)]
            length, moves = ascent.ascend(points, kind, 0.25, clip, scale)
            T = [abs(a) + 0.25 if s else torch.ones(3, dtype=F64) for a, s in zip(x, scaled, strict=True)]
            true = exact(*(t * v / size for t, v in zip(T, g, strict=True))) * size
            assert float(length) == pytest.approx(true / scale, rel=ONE_STEP)
            for move, a, v, t, r in zip(moves, x, g, T, rho, strict=True):
                assert move.point is a
                if kind == "normalized":
                    factor = r / true
                else:
                    factor = r / scale * (1 if clip is None else min(1, clip * scale / true))
                torch.testing.assert_close(move.scale * move.vector, factor * t**2 * v, rtol=ONE_STEP, atol=0)
    for dtype in (torch.float16, torch.bfloat16):  # T^2 g = 1.2e7
        point = ascent.Point(
            torch.tensor([200.0], dtype=dtype), torch.tensor([300.0], dtype=dtype), 1.0, True
        )
        size, (move,) = ascent.ascend([point], "unnormalized", 0.0, None, 1.0)
        assert size == 60000 and float(move.vector) == 1.2e7
    points = [ascent.Point(x[0], g[0], 0.1, False)] * 2
    assert ascent.ascend(points, "normalized", 0.0, None, 1.0)[0] == pytest.approx(math.sqrt(2) * exact(g[0]))


# ---- moves


def moved(perturbation, x, vector, scale):
    home, address = x.detach().clone(), x.data_ptr()
    perturbation.move([Move(x, vector, scale)])
    assert perturbation.is_moved
    there, away = x.detach().clone(), x.data_ptr()
    perturbation.back()
    assert not perturbation.is_moved
    assert torch.equal(x.detach(), home) and x.data_ptr() == address
    return there, away != address


@pytest.mark.parametrize("storage", ["auto", "swap", "copy"])
def test_a_move_is_its_formula_and_is_undone_bit_for_bit(storage):
    vector = f64(1, -2, 3, 0.5, 0, 7)
    start = f64(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    for dtype in (F64, torch.float32, torch.bfloat16, torch.float16):
        for scale in (0.3, torch.tensor(0.3, dtype=F64), 1e-6):
            x = nn.Parameter(start.to(dtype))
            expected = (x.detach().double() + float(scale) * vector).to(dtype)
            perturbation = Perturbation(storage)
            for _ in range(2):  # the second time with a buffer that is there
                there, swapped = moved(perturbation, x, vector.to(dtype), scale)
                eps = torch.finfo(dtype).eps
                torch.testing.assert_close(there, expected, rtol=2 * eps, atol=eps)
                assert swapped == (storage != "copy")
            kept = perturbation._buffers[x][1]
            assert not kept.requires_grad
            moved(perturbation, x, vector.to(dtype), scale)
            assert perturbation._buffers[x][1] is kept
    for scale in (0.25, torch.tensor(0.25, dtype=F64)):
        x = nn.Parameter(start.clone())
        there, _ = moved(Perturbation(storage), x, sparse(1.0, 2.0), scale)
        assert torch.equal(there, x.detach() + 0.25 * sparse(1.0, 2.0).to_dense())
    big = nn.Parameter(torch.tensor([1.0, 1.0]).half())  # the scale alone is beyond half precision
    there, _ = moved(Perturbation(storage), big, torch.tensor([1e-6, 0.0]).half(), 1e6)
    assert float(there[0]) == pytest.approx(1 + 1e6 * float(torch.tensor(1e-6).half()), rel=1e-3)
    several = [nn.Parameter(start.clone().to(t)) for t in (F64, F64, torch.float32, torch.bfloat16)]
    perturbation = Perturbation(storage)
    moves = [Move(x, vector.to(x.dtype), 0.1 * (i // 2)) for i, x in enumerate(several)]
    homes = [x.detach().clone() for x in several]
    perturbation.move(moves)
    for x, home, (_, v, scale) in zip(several, homes, moves, strict=True):
        expected = (home.double() + scale * v.double()).to(x.dtype)
        torch.testing.assert_close(x.detach(), expected, rtol=2 * torch.finfo(x.dtype).eps, atol=1e-8)
    perturbation.back()
    assert all(torch.equal(x.detach(), home) for x, home in zip(several, homes, strict=True))


def test_only_plain_parameters_that_own_their_storage_are_swapped_unasked(spread):
    class Own(nn.Parameter):
        pass

    whole = torch.zeros(6)
    far, meta = spread(f64(1, 2), "shard"), nn.Parameter(torch.zeros(2, device="meta"))
    alone, part, shared = (
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(whole[:3]),
        torch.zeros(2).share_memory_(),
    )
    twins = [nn.Parameter(whole), nn.Parameter(whole.view(2, 3))]
    own, thin = Own(torch.zeros(2)), sparse(1.0)
    cases = [(alone, True, True), (torch.zeros(2), True, True), (part, False, True), (shared, False, True)]
    cases += [(own, False, True), (far, False, False), (twins[0], False, True), (twins[1], False, True)]
    cases += [(meta, False, True), (thin, False, True)]
    homes = {t.data_ptr(): 1 for t in (alone, part, shared, own)} | {whole.data_ptr(): 2}
    for tensor, auto, swap in cases:
        at = dict(homes)
        if tensor.layout is torch.strided:
            at.setdefault(tensor.data_ptr(), 1)
        found = [Perturbation(storage)._may_swap(tensor, at) for storage in ("auto", "swap", "copy")]
        assert found == [auto, swap, False]


def test_a_scale_on_a_device_is_not_looked_at():
    """A number on the device "meta" cannot be."""
    x, vector, scale = (torch.zeros(shape, device="meta") for shape in ((2,), (2,), ()))
    for storage in ("swap", "copy"):
        perturbation = Perturbation(storage)
        perturbation.move([Move(x, vector, scale)])
        assert perturbation.is_moved
        perturbation.back()


def test_moves_of_both_kinds_at_once_are_undone_together():
    plain, whole = nn.Parameter(f64(1, 2)), f64(3, 4, 5)
    part, other = nn.Parameter(whole[:1]), nn.Parameter(whole[1:])
    points, perturbation = [plain, part, other], Perturbation("auto")
    perturbation.move([Move(x, torch.ones_like(x), 1.0) for x in points])
    assert [x.tolist() for x in points] == [[2, 3], [4], [5, 6]] and whole.tolist() == [4, 5, 6]
    perturbation.back()
    assert [x.tolist() for x in points] == [[1, 2], [3], [4, 5]] and whole.tolist() == [3, 4, 5]
    far = torch.zeros(4, dtype=F64)
    part.data = far[:3]  # another layout, another buffer
    perturbation.move([Move(part, f64(1, 1, 1), 2.0)])
    assert far.tolist() == [2, 2, 2, 0]
    perturbation.back()
    assert far.tolist() == [0, 0, 0, 0]


# ---- the mixture


def mixed(pairs, gamma):
    parameters = [parameter_with(second) for _, second in pairs]
    mixture.mix(parameters, [first for first, _ in pairs], gamma)
    return [p.grad for p in parameters]


def parameter_with(grad):
    p = nn.Parameter(torch.zeros(6, dtype=F64))
    p.grad = grad
    return p


def test_directions_are_the_mixture_of_every_kind_of_gradients():
    for gamma in (0.0, 0.5, 1.0, 2.0, 3.5):
        for as_tensor in (False, True):
            directions_are_the_mixture(gamma, as_tensor)


def directions_are_the_mixture(gamma, as_tensor):
    g, h = f64(1, 2, 3, 4, 5, 6), f64(-1, 0.5, 2, 8, 1e3, 0)
    pairs = [
        (None, None),
        (g, h),
        (None, h),
        (g, None),
        (g.clone(), -h),
        (sparse(1.0, 2.0), sparse(3.0, 5.0)),
    ]
    pairs += [(sparse(1.0, 2.0), h), (h, sparse(1.0, 2.0)), (g.float(), h)]
    pairs += [(sparse(1.0, 2.0), None), (None, sparse(1.0, 2.0))]
    dense = [[torch.zeros(6, dtype=F64) if v is None else v.to_dense().double() for v in p] for p in pairs]
    seconds = [None if s is None else s.clone() for _, s in pairs]
    given = torch.tensor(gamma, dtype=F64) if as_tensor else gamma
    found = mixed([(f, s) for (f, _), s in zip(pairs, seconds, strict=True)], given)
    assert found[0] is None and not any(d.requires_grad for d in found[1:])
    assert found[1] is seconds[1] and found[4] is seconds[4]  # in place
    assert found[5].is_sparse  # both are
    (alone,) = mixed([(g, h.clone())], given)
    torch.testing.assert_close(alone, (1 - gamma) * g + gamma * h, rtol=ONE_STEP, atol=1e-12)
    for (first, second), direction in list(zip(dense, found, strict=True))[1:]:
        expected = (1 - gamma) * first + gamma * second
        torch.testing.assert_close(direction.to_dense(), expected, rtol=ONE_STEP, atol=1e-12)
        if gamma == 1 and not as_tensor:
            assert torch.equal(direction.to_dense(), second)
    for lists in ((1, 2), (2, 1)):
        refused(
            lambda a, b: mixture.mix(a, b, 0.5),
            *(n * [p] for n, p in zip(lists, (parameter_with(h), g), strict=True)),
        )


def test_directions_are_cut_to_the_limit_in_place_and_others_left_alone():
    for as_tensor in (False, True):
        for limit, factor in ((2.5, 0.5), (5.0, 1.0), (10.0, 1.0)):
            size = torch.tensor(5.0, dtype=F64) if as_tensor else 5.0
            given = [f64(3), torch.tensor([2.0]), sparse(math.sqrt(12.0)), torch.zeros(1, dtype=F64)]
            expected = [v.to_dense() * factor for v in given]
            mixture.clip(given, size, limit)
            for v, e in zip(given, expected, strict=True):
                torch.testing.assert_close(v.to_dense(), e, rtol=1e-7, atol=0)
        exact_third = [f64(1.0)]
        mixture.clip(exact_third, torch.tensor(3.0, dtype=F64) if as_tensor else 3.0, 1.0)
        assert exact_third[0].item() == 1 / 3
