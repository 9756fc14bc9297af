"""RST inside the training loops of other libraries, against SAM written out by hand over the same batches."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from rst_theory.optim import RST
from rst_theory.schedules import Tabulated

ETA, RHO, MOMENTUM = 0.25, 0.5, 0.9
TRIALS = (1, 0, 1, 1, 0, 1)
BATCHES, BATCH = 12, 4
SAME = 1e-10  # a dozen steps in double precision

lightning = pytest.importorskip("lightning.pytorch")
accelerate = pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")
skorch = pytest.importorskip("skorch")

from rst_theory.integrations.accelerate import step as accelerated_step  # noqa: E402
from rst_theory.integrations.lightning import RSTModule  # noqa: E402
from rst_theory.integrations.skorch import GivesModel, RSTFor  # noqa: E402
from rst_theory.integrations.transformers import RSTTrainer  # noqa: E402


def network(seed=0, dtype=torch.float64, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)]
        if options.get("normalized"):
            layers.insert(1, nn.BatchNorm1d(5))
        return nn.Sequential(*layers).to(dtype)


def examples(dtype=torch.float64):
    random = np.random.default_rng(0)
    inputs = torch.as_tensor(random.standard_normal((BATCHES * BATCH, 4)), dtype=dtype)
    return inputs, torch.as_tensor(random.integers(0, 3, BATCHES * BATCH))


def batches(dtype=torch.float64):
    return list(zip(*(part.split(BATCH) for part in examples(dtype)), strict=True))


def loss_of(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def close(model, expected, tolerance=SAME):
    pairs = zip(weights(model), weights(expected), strict=True)
    return all((a - b).abs().max() <= tolerance * b.abs().max() for a, b in pairs)


def equal(model, other):
    return all(map(torch.equal, weights(model), weights(other)))


def accumulated(k, epochs=1):
    """The batches in groups of k: one optimizer step each."""
    return [batches()[i : i + k] for i in range(0, BATCHES, k)] * epochs


def direction_of(model, group, perturbed, gamma):
    """The mean loss over a group of batches, and SAM's direction, (1 - gamma) g + gamma g_adv."""
    parameters, home = list(model.parameters()), weights(model)

    def pass_over():
        mean = sum(loss_of(model, batch) for batch in group) / len(group)
        return float(mean.detach()), torch.autograd.grad(mean, parameters)

    loss, g = pass_over()
    if not perturbed:
        return loss, g
    norm = torch.cat([v.flatten() for v in g]).norm()
    with torch.no_grad():
        for p, v in zip(parameters, g, strict=True):
            p += RHO * v / norm
    _, second = pass_over()
    with torch.no_grad():
        for p, x in zip(parameters, home, strict=True):
            p.copy_(x)
    return loss, [(1 - gamma) * v + gamma * w for v, w in zip(g, second, strict=True)]


def by_hand(model, groups, trials, *, gamma=1.0, clip=None, epsilon=1e-6, decay=1.0, processes=1):
    """SAM written out, the loss of a step the mean over its group; the losses at the unperturbed weights.

    The epsilon is that of torch.nn.utils.clip_grad_norm_, with which the libraries clip. Of several
    processes each is perturbed by the gradient of its own batches.
    """
    parameters, losses, eta = list(model.parameters()), [], ETA
    velocity = [torch.zeros_like(p) for p in parameters]
    for group, perturbed in zip(groups, trials, strict=True):
        shares = [direction_of(model, group[r::processes], perturbed, gamma) for r in range(processes)]
        losses.append(sum(loss for loss, _ in shares) / processes)
        direction = [sum(parts) / processes for parts in zip(*(d for _, d in shares), strict=True)]
        norm = torch.cat([d.flatten() for d in direction]).norm()
        if clip is not None:
            direction = [d * min(1.0, clip / (norm + epsilon)) for d in direction]
        velocity = [MOMENTUM * m + d for m, d in zip(velocity, direction, strict=True)]
        with torch.no_grad():
            for p, m in zip(parameters, velocity, strict=True):
                p -= eta * m
        eta *= decay
    return losses


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=ETA, momentum=MOMENTUM)


def trials_of(steps):
    return (TRIALS * 2)[:steps]


# ---- Lightning


def lightning_module(base, model, /, accumulate=1, decay=None, **options):
    """A module of the given class around a network; what it logs and what its steps return is kept."""

    class Module(base):
        def __init__(self):
            super().__init__()
            self.model, self.logged, self.hooks = model, [], 0

        def training_step(self, batch, batch_idx):
            loss = loss_of(self.model, batch)
            self.log("loss", loss, on_step=True, on_epoch=True, batch_size=BATCH)
            return loss

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.logged.append((float(outputs["loss"]), float(self.trainer.callback_metrics["loss_step"])))

        def on_before_optimizer_step(self, optimizer):
            self.hooks += 1
            norm = torch.cat([p.grad.flatten() for p in self.model.parameters()]).norm()
            self.log("norm", norm)

        def configure_optimizers(self):
            steps = BATCHES // accumulate
            settings = {"schedule": Tabulated(trials_of(steps)), "total_steps": steps, "rho": RHO, **options}
            optimizer = RST(sgd(self.model.parameters()), **settings)
            if decay is None:
                return optimizer
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    return Module()


def loader():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*examples()), batch_size=BATCH)


OF_LIGHTNING = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "The 'train_dataloader' does not have many workers",
)


def lightning_fit(module, tmp_path, resume=None, loader=loader, **options):
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
        "precision": "64-true",
        "default_root_dir": tmp_path,
        **options,
    }
    with warnings.catch_warnings():
        for message in OF_LIGHTNING:
            warnings.filterwarnings("ignore", message)
        trainer = lightning.Trainer(**settings)
        trainer.fit(module, loader and loader(), ckpt_path=resume, weights_only=True)
    return trainer


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_lightnings_plain_module_takes_the_right_steps_and_logs_the_wrong_loss(tmp_path, gamma):
    """What `RSTModule` is for: here the loss of the second pass is logged."""
    expected = network()
    losses = by_hand(expected, accumulated(1), trials_of(12), gamma=gamma)
    module = lightning_module(lightning.LightningModule, network(), gamma=gamma)
    lightning_fit(module, tmp_path)
    assert close(module.model, expected)
    assert [abs(a[0] - b) < SAME for a, b in zip(module.logged, losses, strict=True)] == [
        not trial for trial in trials_of(12)
    ]


@pytest.mark.parametrize(
    "trainer, gamma", [({"accumulate_grad_batches": 2}, 1.0), ({"gradient_clip_val": 0.4}, 2.0)]
)
def test_lightnings_plain_module_takes_wrong_steps(tmp_path, trainer, gamma):
    """With accumulation, or clipping and a mixture; its hook sees both gradients."""
    k, clip = trainer.get("accumulate_grad_batches", 1), trainer.get("gradient_clip_val")
    steps, expected = BATCHES // k, network()
    by_hand(expected, accumulated(k), trials_of(steps), gamma=gamma, clip=clip)
    module = lightning_module(lightning.LightningModule, network(), k, gamma=gamma)
    lightning_fit(module, tmp_path, **trainer)
    assert not close(module.model, expected, 1e-3)
    assert module.hooks == steps + sum(trials_of(steps))


@pytest.mark.parametrize("p", [0, 1])
def test_lightning_at_the_ends_of_the_schedule_is_the_base_and_sam(tmp_path, p):
    expected = network()
    losses = by_hand(expected, accumulated(1), (p,) * 12)
    module = lightning_module(RSTModule, network(), schedule=p)
    lightning_fit(module, tmp_path)
    assert close(module.model, expected)
    assert np.allclose(module.logged, np.array([losses] * 2).T, rtol=SAME, atol=0)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_lightning_runs_both_passes_over_all_micro_batches_and_clips_the_direction(tmp_path, k, gamma, clip):
    expected, steps = network(), BATCHES // k
    losses = by_hand(expected, accumulated(k), trials_of(steps), gamma=gamma, clip=clip)
    module = lightning_module(RSTModule, network(), k, gamma=gamma)
    trainer = lightning_fit(module, tmp_path, accumulate_grad_batches=k, gradient_clip_val=clip)
    assert close(module.model, expected)
    # Lightning divides what it returns by k; what is logged is the micro-batch's own loss.
    logged = np.array(module.logged).reshape(steps, k, 2)
    assert np.allclose(logged[:, :, 0].sum(1), losses, rtol=SAME, atol=0)
    assert np.allclose(logged[:, :, 1].mean(1), losses, rtol=SAME, atol=0)
    assert np.isclose(float(trainer.callback_metrics["loss_epoch"]), np.mean(losses), rtol=SAME, atol=0)
    assert module.hooks == steps == trainer.global_step
    assert module.optimizers().perturbed_steps == sum(trials_of(steps))


def test_lightnings_last_group_may_be_short(tmp_path):
    """Lightning divides by k all the same."""
    module = lightning_module(RSTModule, network(), schedule=1.0, total_steps=None)
    lightning_fit(module, tmp_path, accumulate_grad_batches=5)
    expected, groups = network(), [batches()[:5], batches()[5:10], batches()[10:]]
    optimizer = RST(sgd(expected.parameters()), 1.0, rho=RHO)
    for group in groups:

        def closure(group=group):
            optimizer.zero_grad()
            for batch in group:
                (loss_of(expected, batch) / 5).backward()

        optimizer.step(closure)
    assert close(module.model, expected)


def test_lightnings_other_forms_of_a_training_step_are_known_and_can_tell_the_pass(tmp_path):
    """Without the batch's index, and with a dict for what it returns."""
    expected, passes = network(), []
    losses = by_hand(expected, accumulated(1), trials_of(12))

    def training_step(batch):
        passes.append(module.optimizers().is_perturbed)
        return {"loss": loss_of(module.model, batch), "size": BATCH}

    module = lightning_module(RSTModule, network())
    module.training_step = training_step
    module.on_train_batch_end = lambda outputs, *_: module.logged.append(float(outputs["loss"]))
    lightning_fit(module, tmp_path)
    assert close(module.model, expected) and np.allclose(module.logged, losses, rtol=SAME, atol=0)
    assert passes == [again for trial in trials_of(12) for again in ([False, True] if trial else [False])]


def interrupted(function, at):
    """A function that raises at one of its calls."""
    calls = []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            raise ValueError("interrupted")
        return function(*args, **kwargs)

    return call


def test_lightning_forgets_what_an_interrupted_run_kept(tmp_path):
    expected, module = network(), lightning_module(RSTModule, network(), 3)
    by_hand(expected, accumulated(3), trials_of(4))
    module.training_step = interrupted(module.training_step, at=2)
    with pytest.raises(ValueError, match="interrupted"):
        lightning_fit(module, tmp_path, accumulate_grad_batches=3)
    lightning_fit(module, tmp_path, accumulate_grad_batches=3)
    assert close(module.model, expected)


def test_lightnings_learning_rate_schedulers_are_followed(tmp_path):
    expected = network()
    by_hand(expected, accumulated(1), trials_of(12), decay=0.8)
    module = lightning_module(RSTModule, network(), decay=0.8)
    lightning_fit(module, tmp_path)
    assert close(module.model, expected)


@pytest.mark.parametrize("k", [1, 2])
def test_lightning_resumes_bit_for_bit(tmp_path, k):
    options = {"accumulate_grad_batches": k}

    def module(seed):
        return lightning_module(RSTModule, network(seed), k, total_steps=None, schedule=0.5, seed=3)

    whole = module(0)
    lightning_fit(whole, tmp_path, max_epochs=2, **options)
    half = module(0)
    trainer = lightning_fit(half, tmp_path, max_epochs=1, **options)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = module(1)
    lightning_fit(resumed, tmp_path, resume=tmp_path / "half.ckpt", max_epochs=2, **options)
    assert equal(resumed.model, whole.model) and not equal(half.model, whole.model)
    assert resumed.optimizers().steps_taken == 24 // k
    assert 0 < resumed.optimizers().perturbed_steps == whole.optimizers().perturbed_steps < 24 // k


def test_lightning_in_bfloat16_is_the_loop_under_autocast(tmp_path):
    module = lightning_module(RSTModule, network(dtype=torch.float32))
    module.training_step = lambda batch, batch_idx: loss_of(module.model, (batch[0].float(), batch[1]))
    module.on_train_batch_end = lambda *_: None
    lightning_fit(module, tmp_path, precision="bf16-mixed")
    expected = network(dtype=torch.float32)
    optimizer = RST(sgd(expected.parameters()), Tabulated(TRIALS * 2), 12, RHO)
    for batch in batches(torch.float32):

        def closure(batch=batch):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                loss = loss_of(expected, batch)
            loss.backward()

        optimizer.step(closure)
    assert equal(module.model, expected)


def test_lightning_with_a_loss_scale_is_the_run_without_and_skips_what_overflows(tmp_path):
    """The scaler of 16-mixed, at a scale that is a power of two, around a network in double precision."""
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Scaled(MixedPrecision):
        def autocast_context_manager(self):
            return torch.autocast("cpu", torch.bfloat16, enabled=False)

    def fit(huge):
        module = lightning_module(RSTModule, network())
        if huge:
            plain = module.training_step

            def training_step(batch, batch_idx):
                loss = plain(batch, batch_idx)
                return loss * torch.inf if batch_idx == huge else loss

            module.training_step = training_step
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        plugin = Scaled("16-mixed", "cpu", scaler)
        lightning_fit(module.double(), tmp_path, precision=None, plugins=[plugin], gradient_clip_val=0.4)
        return module, scaler

    expected = network()
    by_hand(expected, accumulated(1), trials_of(12), clip=0.4)
    module, scaler = fit(huge=None)
    assert close(module.model, expected) and scaler.get_scale() == 2.0**8
    for skipped in (2, 4):  # a perturbed step, and one that is not
        assert TRIALS[skipped] == (skipped == 2)
        module, scaler = fit(huge=skipped)
        expected, kept = network(), [i for i in range(12) if i != skipped]
        groups, trials = accumulated(1), trials_of(12)
        by_hand(expected, [groups[i] for i in kept], [trials[i] for i in kept], clip=0.4)
        assert close(module.model, expected) and scaler.get_scale() == 2.0**7
        assert module.optimizers().steps_taken == 12


def test_lightning_counts_statistics_once(tmp_path):
    model = network(normalized=True)
    lightning_fit(lightning_module(RSTModule, model, model=model), tmp_path)
    assert model[1].num_batches_tracked == BATCHES


def test_lightning_draws_the_same_masks_in_both_passes_if_asked(tmp_path):
    def fit(k):
        model, masks = network(), []
        model.append(nn.Dropout(0.5))
        model[-1].register_forward_hook(lambda _, x, y: masks.append((y != 0).flatten().tolist()))
        settings = {"schedule": 1.0, "total_steps": None, "replay_randomness": True}
        module = lightning_module(RSTModule, model, k, **settings)
        lightning_fit(module, tmp_path, accumulate_grad_batches=k)
        return [masks[i : i + 2 * k] for i in range(0, len(masks), 2 * k)]

    for k in (1, 3):
        for masks in fit(k):
            assert masks[:k] == masks[k:] and masks[0].count(True) < 12


def test_lightnings_hooks_that_are_not_passed_on_are_named(tmp_path):
    class Module(RSTModule):
        def on_train_batch_start(self, batch, batch_idx):
            return None

    with pytest.raises(RuntimeError, match=r"must call super\(\).on_train_batch_start"):
        lightning_fit(lightning_module(Module, network()), tmp_path)


def test_lightnings_module_with_another_optimizer_is_a_plain_one(tmp_path):
    class Module(RSTModule):
        def configure_optimizers(self):
            return sgd(self.model.parameters())

    class Plain(lightning.LightningModule):
        configure_optimizers = Module.configure_optimizers

    fitted = []
    for base in (Module, Plain):
        module = lightning_module(base, network())
        type(module).configure_optimizers = Module.configure_optimizers
        lightning_fit(module, tmp_path, accumulate_grad_batches=2, gradient_clip_val=0.1)
        fitted.append(module)
    assert equal(fitted[0].model, fitted[1].model) and fitted[0].logged == fitted[1].logged


# ---- Accelerate


@pytest.fixture
def accelerator():
    """Made with the arguments of an `Accelerator`; what it keeps for the whole process is dropped."""

    def make(**options):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate.state.GradientState._reset_state()
        return accelerate.Accelerator(cpu=True, **options)

    yield make
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def rst(model, steps, **options):
    settings = {"schedule": Tabulated(trials_of(steps)), "total_steps": steps, "rho": RHO, **options}
    return RST(sgd(model.parameters()), **settings)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_accelerates_prepared_optimizer_takes_a_closure(accelerator, gamma):
    """And loses the loss."""
    accelerator, expected = accelerator(), network()
    by_hand(expected, accumulated(1), trials_of(12), gamma=gamma)
    model = network()
    model, optimizer = accelerator.prepare(model, rst(model, 12, gamma=gamma))
    for batch in batches():

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            accelerator.backward(loss)
            return loss

        assert optimizer.step(closure) is None
    assert close(model, expected)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_accelerates_loops_run_their_own_passes(accelerator, k, clip):
    """The two-call form, within `accumulate` and with `clip_grad_norm_`."""
    steps, expected = BATCHES // k, network()
    by_hand(expected, accumulated(k), trials_of(steps), gamma=2.0, clip=clip)
    accelerator, model, kept = accelerator(gradient_accumulation_steps=k), network(), []
    model, optimizer = accelerator.prepare(model, rst(model, steps, gamma=2.0))
    for batch in batches():
        with accelerator.accumulate(model):
            kept.append(batch)
            accelerator.backward(loss_of(model, batch))
            if accelerator.sync_gradients:
                if optimizer.optimizer.will_perturb:
                    with optimizer.optimizer.perturbed():
                        for again in kept:
                            accelerator.backward(loss_of(model, again))
                kept.clear()
                if clip is not None:
                    accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    assert close(model, expected) and optimizer.optimizer.steps_taken == steps


def test_accelerate_accumulates_nothing_that_a_closure_computes(accelerator):
    """What `step` is for: closures of all micro-batches but the last are not called."""
    accelerator, model = accelerator(gradient_accumulation_steps=3), network()
    model, optimizer = accelerator.prepare(model, rst(model, 4))
    calls = []
    for batch in batches():
        with accelerator.accumulate(model):

            def closure(batch=batch):
                calls.append(batch)
                optimizer.zero_grad()
                accelerator.backward(loss_of(model, batch))

            optimizer.step(closure)
    assert len(calls) == 4 + sum(trials_of(4))


def test_accelerates_prepared_optimizer_takes_no_closure_with_a_loss_scale(accelerator):
    """It fails, or the gradients stay scaled: the step is 256 times as long."""
    accelerator, expected, model = accelerator(), network(), network()
    before = weights(model)
    by_hand(expected, accumulated(1)[:1], trials_of(1))
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    model, optimizer = accelerator.prepare(model, rst(model, 12))

    def closure():
        optimizer.zero_grad()
        accelerator.backward(loss_of(model, batches()[0]))

    with pytest.raises(AssertionError, match="scale"):
        optimizer.step(closure)
    closure()
    optimizer.step(closure)
    for x, mine, right in zip(before, weights(model), weights(expected), strict=True):
        assert torch.allclose(mine - x, 2.0**8 * (right - x), rtol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_accelerates_step_is_the_one_written_out(accelerator, k, told, gamma):
    steps, expected = BATCHES // k, network()
    losses = by_hand(expected, accumulated(k), trials_of(steps), gamma=gamma, decay=0.8)
    accelerator, model = accelerator(gradient_accumulation_steps=k if told else 1), network()
    optimizer = rst(model, steps, gamma=gamma)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    for group, loss in zip(accumulated(k), losses, strict=True):
        mine = accelerated_step(accelerator, optimizer, lambda batch: loss_of(model, batch), group, model)
        scheduler.step()
        assert abs(mine - loss) < SAME and not mine.requires_grad
    assert close(model, expected)


@pytest.mark.parametrize("skipped", [None, 1, 2])
def test_accelerates_step_with_a_loss_scale_skips_what_overflows(accelerator, skipped):
    expected, groups, trials = network(), accumulated(2), trials_of(6)
    kept = [i for i in range(6) if i != skipped]
    by_hand(expected, [groups[i] for i in kept], [trials[i] for i in kept])
    accelerator, model = accelerator(), network()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    model, optimizer = accelerator.prepare(model, rst(model, 6))
    for i, group in enumerate(groups):
        factor = torch.inf if i == skipped else 1.0
        accelerated_step(accelerator, optimizer, lambda b, f=factor: f * loss_of(model, b), group)
    assert close(model, expected) and optimizer.optimizer.steps_taken == 6
    assert accelerator.scaler.get_scale() == (2.0**8 if skipped is None else 2.0**7)


def test_accelerate_resumes_bit_for_bit(accelerator, tmp_path):
    def begin(seed):
        model, prepare = network(seed), accelerator().prepare
        return *prepare(model, rst(model, 12)), prepare.__self__

    def go_on(model, optimizer, here, part):
        for batch in batches()[part]:
            accelerated_step(here, optimizer, lambda b: loss_of(model, b), [batch])

    model, optimizer, here = begin(0)
    go_on(model, optimizer, here, slice(0, 6))
    here.save_state(tmp_path)
    go_on(model, optimizer, here, slice(6, 12))
    resumed, other, there = begin(1)
    there.load_state(tmp_path)
    go_on(resumed, other, there, slice(6, 12))
    assert equal(resumed, model) and other.optimizer.steps_taken == 12


def test_accelerates_step_names_what_it_cannot_use(accelerator):
    accelerator, model = accelerator(), network()
    unprepared = rst(model, 12)
    with pytest.raises(TypeError, match="must be an RST prepared by the accelerator"):
        accelerated_step(accelerator, unprepared, loss_of, batches())
    with pytest.raises(TypeError, match="must be an RST prepared by the accelerator"):
        accelerated_step(accelerator, accelerator.prepare(sgd(model.parameters())), loss_of, batches())
    with pytest.raises(ValueError, match="at least one micro-batch"):
        accelerated_step(accelerator, accelerator.prepare(unprepared), loss_of, [])


# ---- Transformers


class WithLoss(nn.Module):
    """What a trainer trains: its own loss is in its output."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, labels):
        return {"loss": loss_of(self.model, (inputs, labels))}


def trainer_of(kind, model, tmp_path, steps, k=1, rst=None, optimizer=sgd, **options):
    class InOrder(kind):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    arguments = transformers.TrainingArguments(
        output_dir=tmp_path,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=k,
        max_steps=steps,
        lr_scheduler_type="constant",
        logging_steps=1,
        **{"save_strategy": "no", "max_grad_norm": 0.0, **options},
    )
    return InOrder(
        WithLoss(model),
        arguments,
        train_dataset=[{"inputs": x, "labels": y} for x, y in zip(*examples(), strict=True)],
        **({} if optimizer is None else {"optimizers": (optimizer(model.parameters()), None)}),
        **({} if rst is None else {"rst": rst}),
    )


def test_the_plain_trainer_refuses_a_perturbed_step(tmp_path):
    model = network()
    trainer = trainer_of(transformers.Trainer, model, tmp_path, 12, optimizer=lambda p: RST(sgd(p), 1.0))
    with pytest.raises(TypeError, match="this step is perturbed"):
        trainer.train()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("clip", [0.0, 0.4])
def test_the_trainer_runs_both_passes_over_all_micro_batches(tmp_path, k, gamma, clip):
    steps, expected = 12 // k, network()
    losses = by_hand(expected, accumulated(k), trials_of(steps), gamma=gamma, clip=clip or None)
    model, settings = network(), {"schedule": Tabulated(trials_of(steps)), "rho": RHO, "gamma": gamma}
    trainer = trainer_of(RSTTrainer, model, tmp_path, steps, k, settings, max_grad_norm=clip)
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert close(model, expected) and np.allclose(logged, losses, rtol=1e-6, atol=0)  # kept in float32
    assert trainer.optimizer.optimizer.perturbed_steps == sum(trials_of(steps))


@pytest.mark.parametrize("p", [0.0, None])
def test_the_trainers_own_optimizer_is_wrapped(tmp_path, p):
    """At p = 0 it is the plain trainer's; SAM where nothing is said."""
    fitted = []
    for kind, settings in (RSTTrainer, None if p is None else {"schedule": p}), (transformers.Trainer, None):
        model = network()
        trainer = trainer_of(kind, model, tmp_path, 12, rst=settings, optimizer=None, learning_rate=0.1)
        trainer.train()
        fitted.append(model)
        taken = getattr(trainer.optimizer.optimizer, "perturbed_steps", 0)
        assert taken == (12 if p is None and kind is RSTTrainer else 0)
    assert equal(*fitted) == (p is not None)


def test_the_trainer_forgets_what_an_interrupted_run_kept(tmp_path):
    expected, model = network(), network()
    by_hand(expected, accumulated(3), trials_of(4))
    trainer = trainer_of(RSTTrainer, model, tmp_path, 4, 3, {"schedule": Tabulated(trials_of(4)), "rho": RHO})
    trainer.compute_loss = interrupted(trainer.compute_loss, at=2)
    with pytest.raises(ValueError, match="interrupted"):
        trainer.train()
    trainer.train()
    assert close(model, expected)


def test_the_trainers_last_group_of_an_epoch_may_be_short(tmp_path):
    groups, expected = [batches()[:5], batches()[5:10], batches()[10:]] * 2, network()
    by_hand(expected, groups, trials_of(6))
    model, settings = network(), {"schedule": Tabulated(trials_of(6)), "rho": RHO}
    trainer_of(RSTTrainer, model, tmp_path, 6, 5, settings).train()
    assert close(model, expected)


@pytest.mark.parametrize("k", [1, 2])
def test_the_trainer_resumes_bit_for_bit(tmp_path, k):
    def trainer(seed):
        return trainer_of(
            RSTTrainer,
            network(seed),
            tmp_path,
            6,
            k,
            {"schedule": 0.5, "seed": 3},
            save_strategy="steps",
            save_steps=3,
        )

    whole = trainer(0)
    whole.train()
    resumed = trainer(1)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert equal(resumed.model, whole.model)
    taken = [t.optimizer.optimizer for t in (resumed, whole)]
    assert [o.steps_taken for o in taken] == [6, 6] and taken[0].perturbed_steps == taken[
        1
    ].perturbed_steps > 0


def test_the_trainer_counts_statistics_once_and_replays_masks(tmp_path):
    model, masks = network(normalized=True), []
    model.append(nn.Dropout(0.5))
    model[-1].register_forward_hook(lambda _, x, y: masks.append((y != 0).flatten().tolist()))
    trainer_of(RSTTrainer, model, tmp_path, 4, 3, {"rho": RHO, "replay_randomness": True}).train()
    assert model[1].num_batches_tracked == BATCHES
    assert [masks[i : i + 3] for i in range(0, 24, 6)] == [masks[i + 3 : i + 6] for i in range(0, 24, 6)]


def test_the_trainer_refuses_a_loss_scale(tmp_path):
    trainer = trainer_of(RSTTrainer, network(), tmp_path, 12)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match="bf16, not fp16"):
        trainer.train()


# ---- skorch


def net(kind=skorch.NeuralNetClassifier, model=network, **options):
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": RSTFor(torch.optim.SGD),
        "optimizer__momentum": MOMENTUM,
        "optimizer__schedule": Tabulated(TRIALS * 2),
        "optimizer__total_steps": 12,
        "optimizer__rho": RHO,
        "lr": ETA,
        "batch_size": BATCH,
        "iterator_train__shuffle": False,
        "train_split": None,
        "max_epochs": 1,
        "verbose": 0,
    }
    return kind(model, **{**settings, **options})


def fit(a_net):
    inputs, targets = examples()
    return a_net.fit(inputs, targets)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_skorch_trains_and_records_the_loss_at_the_unperturbed_weights(gamma, clip):
    expected = network()
    losses = by_hand(expected, accumulated(1), TRIALS * 2, gamma=gamma, clip=clip, epsilon=0.0)
    fitted = fit(net(optimizer__gamma=gamma, optimizer__clip_direction=clip))
    assert close(fitted.module_, expected)
    assert np.allclose(fitted.history[0, "batches", :, "train_loss"], losses, rtol=SAME, atol=0)
    assert np.isclose(fitted.history[0, "train_loss"], np.mean(losses), rtol=SAME, atol=0)


def test_skorchs_own_parameters_reach_the_optimizer():
    made = (
        net(optimizer__degree=0.5, optimizer__schedule=0.5, optimizer__weight_decay=0.1)
        .initialize()
        .optimizer_
    )
    assert made.base.param_groups[0]["weight_decay"] == 0.1 and made.degree_attained == 0.5
    assert (
        net().set_params(optimizer__seed=7).initialize().optimizer_.state_dict()["rst"]["plan"]["seed"] == 7
    )
    with pytest.raises(TypeError, match="nesterow"):
        net(optimizer__nesterow=True).initialize()


def test_skorchs_nets_are_cloned_and_searched():
    sklearn = pytest.importorskip("sklearn.base")
    assert equal(fit(sklearn.clone(net())).module_, fit(net()).module_)
    assert repr(net().optimizer) == "RSTFor(SGD)"


class Net(GivesModel, skorch.NeuralNetClassifier):
    """A net whose optimizer is given its module."""


@pytest.mark.parametrize(
    "kind, counted", [(Net, 1), (skorch.NeuralNetClassifier, 1 + sum(TRIALS) / len(TRIALS))]
)
def test_skorch_counts_statistics_once_where_the_model_is_given(kind, counted):
    fitted = fit(net(kind, lambda: network(normalized=True)))
    assert fitted.module_[1].num_batches_tracked == counted * BATCHES


def test_skorch_resumes_bit_for_bit(tmp_path):
    inputs, targets = examples()
    whole = fit(net())
    half = net().initialize()
    half.partial_fit(inputs[:24], targets[:24])
    files = {f"f_{part}": str(tmp_path / part) for part in ("params", "optimizer", "history")}
    half.save_params(**files)
    resumed = net(model=lambda: network(seed=1)).initialize()
    resumed.load_params(**files)
    resumed.partial_fit(inputs[24:], targets[24:])
    assert equal(resumed.module_, whole.module_) and resumed.optimizer_.steps_taken == 12


# ---- where a library is missing


LIBRARIES = ("lightning", "accelerate", "transformers", "skorch")


def test_the_package_loads_none_of_them_and_a_missing_one_names_the_extra():
    code = f"""
import importlib, sys
import rst_theory, rst_theory.optim, rst_theory.integrations
for name in {LIBRARIES}:
    assert name not in sys.modules
    sys.modules[name] = None  # as if it were not installed
    try:
        importlib.import_module("rst_theory.integrations." + name)
    except ImportError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name, line in zip(LIBRARIES, run.stdout.splitlines(), strict=True):
        assert line.startswith(f"{name} cannot be imported")
        assert line.endswith("pip install 'rst-theory[integrations]'")


# ---- two processes


def on_each_of_two_processes(folder):
    """Rank r has every second batch, in accumulated groups of 3: as one process with groups of 6."""
    rank, k, steps, gamma = int(os.environ["RANK"]), 3, 2, 2.0
    expected = network()
    by_hand(expected, accumulated(2 * k), trials_of(steps), gamma=gamma)

    here = accelerate.Accelerator(cpu=True)
    inner = network()
    model, optimizer = here.prepare(inner, rst(inner, steps, gamma=gamma))
    mine = batches()[rank::2]
    for group in (mine[:k], mine[k:]):
        accelerated_step(here, optimizer, lambda batch: loss_of(model, batch), group, model)
    assert close(inner, expected), "Accelerate"

    model, settings = network(), {"schedule": Tabulated(trials_of(steps)), "rho": RHO, "gamma": gamma}
    trainer_of(RSTTrainer, model, folder, steps, k, settings).train()
    assert close(model, expected), "Transformers"

    def fit(**options):
        """Its optimizer is made where the model is wrapped already."""
        module = lightning_module(RSTModule, network(), k)
        module.configure_optimizers = lambda: RST(
            sgd(module.model.parameters()),
            **{"total_steps": steps, "model": module.trainer.strategy.model, **settings, **options},
        )
        module.train_dataloader = lambda: torch.utils.data.DataLoader(mine, batch_size=None)
        module.on_train_batch_end = lambda *_: None
        launch = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
        lightning_fit(module, folder, None, loader=None, accumulate_grad_batches=k, **launch)
        return module.model

    assert close(fit(), expected), "Lightning"
    alone = network()
    by_hand(alone, accumulated(2 * k), trials_of(steps), gamma=gamma, processes=2)
    assert close(fit(sync_perturbation=False), alone), "Lightning, each process perturbed alone"
    assert not close(expected, alone, 1e-3)


def test_two_processes_are_one_with_the_joined_batches(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, __file__, tmp_path], check=True, capture_output=True, timeout=100)


if __name__ == "__main__":
    on_each_of_two_processes(sys.argv[1])
