"""The networks: their sizes, their formulas, where they start, and that they run in every format."""

import copy
import functools
import hashlib
import math

import pytest
import torch
from conftest import COMPARISON_ALARM, NUMERIC, ONE_STEP
from hypothesis import given, settings, strategies as st
from scipy import stats
from torch import nn

from rst_theory.notation import DomainError
from rst_theory.training.models import MLP, MODELS, ResNet18, SmallCNN, ViT, WideResNet, build_model
from rst_theory.training.models.vit import SelfAttention, TransformerBlock

F = nn.functional

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
TINY = {
    "mlp": functools.partial(MLP, width=8),
    "cnn": functools.partial(SmallCNN, width=4),
    "resnet18": functools.partial(ResNet18, width=4),
    "wrn28-10": functools.partial(WideResNet, depth=10, width=2),
    "vit": functools.partial(ViT, width=12, depth=2),
}


@functools.cache
def _built(name, shape, seed):
    return build_model(name, shape, 10, seed)


def built(name, shape=(1, 8, 8), seed=0):
    return copy.deepcopy(_built(name, shape, seed))


def seeded(make, *arguments, seed=0, **named):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*arguments, **named)


def tiny(name, shape=(3, 8, 8)):
    """A small network of the kind in double precision, with no gain left at 1 and no bias at 0."""
    model = seeded(TINY[name], shape, 10).double()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
    return model


def images(count, shape=(3, 8, 8), dtype=torch.float64):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(2), dtype=dtype)


def labels(count):
    return torch.randint(10, (count,), generator=torch.Generator().manual_seed(3))


def gradients(model, inputs):
    model.zero_grad()
    F.cross_entropy(model(inputs), labels(len(inputs))).backward()
    return [weight.grad.clone() for weight in model.parameters()]


def assert_close(ours, expected, tolerance):
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max()


# ---- sizes


def parameters_of(make, *arguments, **named):
    with torch.device("meta"):
        return sum(weight.numel() for weight in make(*arguments, **named).parameters())


def small_sizes(channels, height, width, classes):
    pixels, places = channels * height * width, (height // 4) * (width // 4)
    mlp = (pixels + 1) * 128 + (128 + 1) * 128 + (128 + 1) * classes
    cnn = (9 * channels + 1) * 16 + (9 * 16 + 1) * 32 + (32 * places + 1) * classes
    return {"mlp": mlp, "cnn": cnn}


def resnet18_size(channels, classes):
    convolutions = 9 * channels * 64
    normalized = 64
    for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
        convolutions += 9 * outputs * (inputs + 3 * outputs) + (inputs * outputs if inputs != outputs else 0)
        normalized += outputs * (4 if inputs == outputs else 5)
    return convolutions + 2 * normalized + (512 + 1) * classes


def wide_resnet_size(depth, k, channels, classes):
    n, inputs = (depth - 4) // 6, 16
    total = 9 * channels * 16
    for outputs in (16 * k, 32 * k, 64 * k):
        total += (
            9 * inputs * outputs
            + (2 * n - 1) * 9 * outputs**2
            + (inputs * outputs if inputs != outputs else 0)
        )
        total += 2 * (inputs + (2 * n - 1) * outputs)
        inputs = outputs
    return total + 2 * inputs + (inputs + 1) * classes


def vit_size(channels, height, width, classes, patch, D=192, depth=6):
    attention, perceptron, normalization = 4 * D * (D + 1), D * 4 * D + 4 * D + 4 * D * D + D, 2 * D
    tokens = (height // patch) * (width // patch)
    block = attention + perceptron + 2 * normalization
    return (channels * patch**2 + 1) * D + tokens * D + depth * block + normalization + (D + 1) * classes


def test_networks_have_the_sizes_of_the_literature():
    assert parameters_of(MODELS["resnet18"], (3, 32, 32), 10) == 11_173_962
    assert parameters_of(MODELS["wrn28-10"], (3, 32, 32), 10) == 36_479_194
    # Zagoruyko & Komodakis, tables 4 and 5, in millions
    for depth, width, millions in ((40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (16, 8, 11.0), (16, 10, 17.1)):
        size = parameters_of(WideResNet, (3, 32, 32), 10, depth=depth, width=width)
        assert abs(size / 1e6 - millions) <= 0.05


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sizes_are_the_sums_over_the_layers(shape, classes):
    expected = {
        **small_sizes(*shape, classes),
        "resnet18": resnet18_size(shape[0], classes),
        "wrn28-10": wide_resnet_size(28, 10, shape[0], classes),
        "vit": vit_size(*shape, classes, patch=2 if shape[1] == 8 else 4),
    }
    assert {name: parameters_of(make, shape, classes) for name, make in MODELS.items()} == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_each_image_gets_a_number_for_each_class(name, shape):
    with torch.device("meta"):
        outputs = MODELS[name](shape, 100)(torch.empty(5, *shape))
    assert outputs.shape == (5, 100)


@given(
    name=st.sampled_from([*TINY]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    classes=st.integers(1, 12),
)
@settings(max_examples=60)
def test_every_shape_has_a_network_or_a_clear_refusal(name, shape, classes):
    sides = shape[1:]
    refused = {
        "cnn": min(sides) < 4,
        "vit": any(side % (2 if min(sides) <= 8 else 4) for side in sides),
    }
    with torch.device("meta"):
        if refused.get(name, False):
            with pytest.raises(DomainError, match="height and width"):
                TINY[name](shape, classes)
        else:
            assert TINY[name](shape, classes)(torch.empty(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "vgg"}, "model must be one of mlp, cnn, resnet18, wrn28-10, vit; got 'vgg'"),
        ({"shape": (8, 8)}, r"shape = \(channels, height, width\); got \(8, 8\)"),
        ({"shape": (0, 8, 8)}, "1 <= channels; got 0"),
        ({"shape": (1, -8, 8)}, "1 <= height; got -8"),
        ({"shape": (1, 8, 0)}, "1 <= width; got 0"),
        ({"classes": 0}, "1 <= classes; got 0"),
        ({"name": "cnn", "shape": (1, 3, 8)}, r"height and width >= 4; got \(3, 8\)"),
        ({"name": "cnn", "shape": (1, 8, 3)}, r"height and width >= 4; got \(8, 3\)"),
        ({"name": "vit", "shape": (1, 30, 32)}, r"divisible by the patch size 4; got \(30, 32\)"),
        ({"name": "vit", "shape": (1, 32, 30)}, r"divisible by the patch size 4; got \(32, 30\)"),
    ],
)
def test_what_cannot_be_built_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build_model(**{"name": "mlp", "shape": (1, 8, 8), "classes": 10, "seed": 0, **change})
    with pytest.raises(TypeError, match="height must be an integer"):
        build_model("cnn", (1, 8.0, 8), 10, 0)


@pytest.mark.parametrize(
    "make, named, message",
    [
        (WideResNet, {"depth": 27}, "depth = 6 n [+] 4 for an integer n; got 27"),
        (WideResNet, {"depth": 4}, "10 <= depth; got 4"),
        (WideResNet, {"width": 0}, "1 <= width; got 0"),
        (WideResNet, {"dropout": 1.0}, "0 <= dropout < 1; got 1.0"),
        (WideResNet, {"dropout": -0.1}, "0 <= dropout < 1; got -0.1"),
        (WideResNet, {"dropout": math.nan}, "0 <= dropout < 1; got nan"),
        (ViT, {"patch": 3}, "divisible by the patch size 3"),
        (ViT, {"patch": 0}, "1 <= patch; got 0"),
        (ViT, {"width": 100}, "width divisible by the 3 heads; got 100"),
        (ViT, {"heads": 0}, "1 <= heads; got 0"),
        (ViT, {"depth": 0}, "1 <= depth; got 0"),
    ],
)
def test_an_argument_outside_its_domain_is_refused(make, named, message):
    with pytest.raises(DomainError, match=message), torch.device("meta"):
        make((3, 32, 32), 10, **named)


# ---- the beginning


def sha256(model):
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    "name, seed, expected",
    [
        ("mlp", 0, "187bbc8aa8574a099235b27d3d94d55799ff4a952536be392851cd9c8223dd73"),
        ("mlp", 7, "33d877425f557334b138fc61860e4ff1d56c7a9b975170201bd78d5322dbd858"),
        ("cnn", 0, "c581ae30c2f953587b1ae9efa352561f84e89abf8b830df3c01631b600c8880d"),
        ("cnn", 7, "a25773709ed328b3f4384769ddb3604bda4a146f1b00117189eb2fcab65ddd35"),
    ],
)
def test_the_small_networks_begin_where_they_always_began(name, seed, expected):
    """Recorded when images had one channel and no word for it: older runs can be rerun."""
    assert sha256(build_model(name, (1, 8, 8), 10, seed)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_from_the_seed_and_leave_the_generator_alone(name):
    state = torch.get_rng_state()
    first = _built(name, (1, 8, 8), 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    try:
        again, other = build_model(name, (1, 8, 8), 10, 0), build_model(name, (1, 8, 8), 10, 1)
    finally:
        torch.set_rng_state(state)
    assert sha256(first) == sha256(again)
    drawn = [weight.std() > 0 for weight in first.parameters()]
    assert sum(drawn) >= 3
    for random, a, b in zip(drawn, first.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) != random  # gains of 1 and biases of 0 are not drawn


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18", "vit"])
def test_double_precision_starts_at_the_same_weights(name):
    single, double = _built(name, (1, 8, 8), 0), build_model(name, (1, 8, 8), 10, 0, torch.float64)
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert b.dtype == torch.float64 and torch.equal(a.double(), b)


def assert_variance(weights, variance):
    """A sum of n squared normal numbers is chi-squared; this is one of at most 100 such comparisons."""
    n = weights.numel()
    squares = weights.double().square().sum().item() / variance
    alarm = COMPARISON_ALARM / 100 / 2
    assert stats.chi2.isf(1 - alarm, n) <= squares <= stats.chi2.isf(alarm, n)


def assert_uniform(weights, bound):
    """No number is beyond the bound, and the largest of n is under (1 - e) of it with chance (1 - e)^n."""
    reached = weights.abs().max().item() / bound
    assert (COMPARISON_ALARM / 100) ** (1 / weights.numel()) <= reached <= 1 + 1e-6  # rounding to float32


@pytest.mark.parametrize("name", ["resnet18", "wrn28-10"])
def test_convolutions_begin_as_he_et_al_say(name):
    convolutions = [layer for layer in _built(name, (1, 8, 8), 0).modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == {"resnet18": 20, "wrn28-10": 28}[name]
    for layer in convolutions:
        outputs, _, size, _ = layer.weight.shape
        assert layer.bias is None
        assert_variance(layer.weight, 2 / (size**2 * outputs))


def test_the_transformer_begins_as_it_says():
    model = _built("vit", (1, 8, 8), 0)
    assert_variance(model.places, 1)
    assert_variance(model.patches.weight, 1 / 4)
    assert not model.patches.bias.any()
    for layer in model.blocks.modules():
        if isinstance(layer, nn.LayerNorm):
            assert torch.equal(layer.weight, torch.ones(192))
        if isinstance(layer, nn.Linear):
            assert_uniform(layer.weight, bound=math.sqrt(6 / sum(layer.weight.shape)))
        if isinstance(layer, nn.LayerNorm | nn.Linear):
            assert not layer.bias.any()


@pytest.mark.parametrize(
    "name, shape",
    [(name, (1, 8, 8)) for name in MODELS] + [(name, (3, 32, 32)) for name in MODELS if name != "wrn28-10"],
)
def test_the_first_loss_is_about_that_of_a_guess_and_moves_every_weight(name, shape):
    model, count = built(name, shape), 16
    loss = F.cross_entropy(model(images(count, shape, torch.float32)), labels(count))
    assert abs(loss.item() - math.log(10)) < 1.0
    loss.backward()
    for weight in model.parameters():
        assert weight.grad.isfinite().all() and weight.grad.any()


# ---- the formulas, written out


def normalized(x, gain, bias, dims):
    """(x - mean) / sqrt(variance + 1e-5), over `dims`; gain and bias are along the dimension left of them."""
    mean = x.mean(dims, keepdim=True)
    variance = (x - mean).square().mean(dims, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * gain + bias


def batch_normalized(x, w):
    return normalized(x, next(w)[:, None, None], next(w)[:, None, None], (0, 2, 3))


def resnet18_by_hand(x, w):
    """The sums of the paper, one weight after the other from w."""
    x = batch_normalized(F.conv2d(x, next(w), padding=1), w).clamp(min=0)
    for block in range(8):
        stride = 2 if block in (2, 4, 6) else 1
        y = batch_normalized(F.conv2d(x, next(w), stride=stride, padding=1), w).clamp(min=0)
        y = batch_normalized(F.conv2d(y, next(w), padding=1), w)
        if stride == 2:
            x = batch_normalized(F.conv2d(x, next(w))[:, :, ::2, ::2], w)
        x = (x + y).clamp(min=0)
    return x.mean((2, 3)) @ next(w).T + next(w)


def wide_resnet_by_hand(x, w, blocks, k, dropout=0.0):
    x = F.conv2d(x, next(w), padding=1)
    for stage, outputs in enumerate((16 * k, 32 * k, 64 * k)):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            a = batch_normalized(x, w).clamp(min=0)
            y = batch_normalized(F.conv2d(a, next(w), stride=stride, padding=1), w).clamp(min=0)
            y = F.conv2d(F.dropout(y, dropout), next(w), padding=1)
            if x.shape[1] != outputs:
                x = F.conv2d(a, next(w))[:, :, ::stride, ::stride]
            x = x + y
    return batch_normalized(x, w).clamp(min=0).mean((2, 3)) @ next(w).T + next(w)


def softmax_attention(x, w, heads):
    """Token by token and head by head."""
    triple = x @ next(w).T + next(w)
    out_weight, out_bias = next(w), next(w)
    n, _, width = x.shape
    d = width // heads
    joined = torch.zeros_like(x)
    for i in range(n):
        for h in range(heads):
            Q, K, V = (triple[i, :, m * width + h * d : m * width + (h + 1) * d] for m in range(3))
            weights = torch.exp(Q @ K.T / math.sqrt(d))
            joined[i, :, h * d : (h + 1) * d] = weights / weights.sum(1, keepdim=True) @ V
    return joined @ out_weight.T + out_bias


def vit_by_hand(x, w, patch, heads, depth):
    places, filters, bias = next(w), next(w), next(w)
    rows = [
        torch.stack(
            [(filters * block).sum((1, 2, 3)) for block in x[:, None, :, i : i + patch, j : j + patch]]
        )
        for i in range(0, x.shape[2], patch)
        for j in range(0, x.shape[3], patch)
    ]
    x = torch.stack(rows, dim=1) + bias + places
    for _ in range(depth):
        x = x + softmax_attention(normalized(x, next(w), next(w), -1), w, heads)
        y = normalized(x, next(w), next(w), -1) @ next(w).T + next(w)
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
        x = x + y @ next(w).T + next(w)
    return normalized(x, next(w), next(w), -1).mean(1) @ next(w).T + next(w)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 12, 16)], ids=str)
def test_a_residual_network_is_the_sums_of_its_paper(shape):
    model, x = tiny("resnet18", shape), images(4, shape)
    w = model.parameters()
    assert_close(model(x), resnet18_by_hand(x, w), NUMERIC)
    assert next(w, None) is None


@pytest.mark.parametrize("depth, k, dropout", [(10, 2, 0.0), (16, 1, 0.0), (16, 1, 0.3)])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 12, 16)], ids=str)
def test_a_wide_network_is_the_sums_of_its_paper(shape, depth, k, dropout):
    model = seeded(WideResNet, shape, 10, depth, k, dropout).double()
    x, w = images(4, shape), model.parameters()
    ours = seeded(model, x, seed=5)
    assert_close(ours, seeded(wide_resnet_by_hand, x, w, (depth - 4) // 6, k, dropout, seed=5), NUMERIC)
    assert next(w, None) is None


@pytest.mark.parametrize("shape, patch", [((3, 8, 8), 2), ((1, 12, 16), 4)], ids=str)
def test_a_transformer_is_the_sums_of_its_paper(shape, patch):
    model, x = tiny("vit", shape), images(3, shape)
    w = model.parameters()
    assert_close(model(x), vit_by_hand(x, w, patch, heads=3, depth=2), NUMERIC)
    assert next(w, None) is None


def test_attention_is_an_explicit_softmax():
    attention = seeded(SelfAttention, 12, 3).double()
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(attention(x), softmax_attention(x, attention.parameters(), heads=3), NUMERIC)


def test_a_transformer_block_is_that_of_torch():
    ours = seeded(TransformerBlock, 12, 3).double()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    names = {
        "self_attn.in_proj_": "attention.1.queries_keys_values.",
        "self_attn.out_proj.": "attention.1.output.",
        "linear1.": "perceptron.1.",
        "linear2.": "perceptron.3.",
        "norm1.": "attention.0.",
        "norm2.": "perceptron.0.",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {a + part: state[b + part] for a, b in names.items() for part in ("weight", "bias")}
    )
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(ours(x), theirs(x), NUMERIC)


def test_only_the_places_tell_a_transformer_where_a_patch_was():
    model, x = tiny("vit"), images(3)
    turned = x.roll((2, 4), dims=(2, 3))  # by whole patches
    assert (model(x) - model(turned)).abs().max() > 1e-3
    with torch.no_grad():
        model.places.zero_()
    assert_close(model(x), model(turned), NUMERIC)


def test_dropout_changes_training_alone():
    plain, dropping = (seeded(WideResNet, (1, 8, 8), 10, 10, 1, dropout) for dropout in (0.0, 0.5))
    x = images(4, (1, 8, 8), torch.float32)
    assert torch.equal(plain.eval()(x), dropping.eval()(x))
    dropping.train()
    assert not torch.equal(seeded(dropping, x, seed=1), seeded(dropping, x, seed=2))


# ---- formats


@pytest.mark.parametrize("name", TINY)
def test_once_trained_a_network_is_a_function(name):
    model, x = tiny(name), images(4)
    trained = model(x)
    before = copy.deepcopy(model.eval().state_dict())
    state = torch.get_rng_state()
    together = model(x)
    assert torch.equal(together, model(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert_close(torch.cat([model(one[None]) for one in x]), together, NUMERIC)  # each image by itself
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert torch.equal(trained, together) == (name in ("mlp", "cnn", "vit"))  # which have no statistics


@pytest.mark.parametrize("name", TINY)
def test_the_order_of_numbers_in_memory_makes_no_difference(name):
    plain, x = tiny(name), images(4)
    ordered = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    y = x.to(memory_format=torch.channels_last)
    assert not y.is_contiguous()
    assert_close(ordered(y), plain(x), ONE_STEP)
    for ours, expected in zip(gradients(ordered, y), gradients(plain, x), strict=True):
        assert_close(ours, expected, NUMERIC)


@pytest.mark.parametrize("name", TINY)
def test_sixteen_bits_are_enough_for_a_step(name):
    """Relative rounding of bfloat16 is at most 2^-8; to first order the errors of the layers add up."""
    model, x = seeded(TINY[name], (3, 8, 8), 10), images(8, dtype=torch.float32)
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(x)
        loss = F.cross_entropy(outputs, labels(8))
    loss.backward()
    assert outputs.dtype == torch.bfloat16 and loss.dtype == torch.float32
    layers = sum(1 for layer in model.modules() if next(layer.parameters(recurse=False), None) is not None)
    assert (outputs - expected).norm() <= 2**-8 * layers * expected.norm()
    for weight in model.parameters():
        assert weight.dtype == weight.grad.dtype == torch.float32
        assert weight.grad.isfinite().all() and weight.grad.any()


@pytest.mark.parametrize("name", TINY)
def test_a_few_steps_learn_a_few_images_by_heart(name):
    model, x = seeded(TINY[name], (3, 8, 8), 10), images(10, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), torch.arange(10))
        loss.backward()
        optimizer.step()
    assert loss < 0.5
