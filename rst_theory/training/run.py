"""A training run between two steps: what it has done, and how it does more."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rst_theory.optim import RST
from rst_theory.optim.lengths import length
from rst_theory.training.config import TrainConfig
from rst_theory.training.data import DATA, Split, as_floats, augment, load_data
from rst_theory.training.models import build_model
from rst_theory.training.processes import Processes
from rst_theory.training.rates import rate_scheduler
from rst_theory.training.records import RunRecord, environment
from rst_theory.training.seeds import generator

__all__ = ["Epoch", "Progress", "Run"]

Progress = Callable[[int, int], None]
"""Called after each step with the number of steps done and of all steps."""

_STEPS_BETWEEN_LOOKS = {"cpu": 1, "cuda": 50}
"""How often losses are read: on a GPU each reading waits for all that was begun."""
_EVALUATED_TOGETHER = 1000


class Epoch(NamedTuple):
    """What is known when an epoch is finished.

    Attributes:
        number: of the epoch, from 1.
        train_loss: mean loss over its minibatches, at the unperturbed weights.
        test_accuracy: after it.
        steps: done so far.
        pairs: propagation pairs spent so far.
        seconds: spent in steps so far.
    """

    number: int
    train_loss: float
    test_accuracy: float
    steps: int
    pairs: int
    seconds: float


class Run:
    """Model, optimizer, learning rate and history of a run.

    Args:
        config: what to run.
        processes: those that share it.
        directory: of the files of the data.
        progress: called after each step.
        after_epoch: called after each epoch.

    Raises:
        ImportError, OSError, ValueError: what `load_data` raises.

    Attributes:
        data_sha256: of the examples, split and redrawn as they are, by which changed data are noticed.
    """

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes,
        directory: Path | None = None,
        progress: Progress | None = None,
        after_epoch: Callable[[Epoch], None] | None = None,
    ) -> None:
        self.config, self.processes, self.device = config, processes, processes.device
        self.progress, self.after_epoch = progress, after_epoch
        self.split, self.data_sha256 = _load(config, directory, self.device)
        self.model = _model(config).to(self.device)
        self.network = processes.wrap(self.model)
        self.optimizer = _optimizer(config, self.network)
        self.scheduler = rate_scheduler(self.optimizer, config.rate, config.steps, config.warmup)
        self.coins = config.coins()
        self.train_loss: list[float] = []
        self.test_accuracy: list[float] = []
        self.loss_so_far = 0.0
        self.seconds = 0.0
        self._unread: list[tuple[Tensor, int]] = []

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.train_loss)

    def looks(self) -> Iterator[bool]:
        """Train to the end; yields after each look at the losses whether an epoch is finished.

        Raises:
            FloatingPointError: the run diverged: a loss, the gradient of a perturbed step, or after an epoch
                a weight is not finite.
        """
        while self.epoch < self.config.epochs:
            for _ in self._train_epoch():
                yield False
            self.require_finite()
            self.test_accuracy.append(self.processes.from_first(self._accuracy))
            self.train_loss.append(self.loss_so_far / self.config.examples)
            self.loss_so_far = 0.0
            if self.after_epoch is not None:
                steps, pairs = self.optimizer.steps_taken, self._pairs
                finished = (self.epoch, self.train_loss[-1], self.test_accuracy[-1], steps, pairs)
                self.after_epoch(Epoch(*finished, self.seconds))
            yield True

    def _train_epoch(self) -> Iterator[None]:
        """What is left of a pass over the training data, in an order that (seed, epoch) alone decides."""
        order = generator(self.config.seed, "batch order", self.epoch).permutation(self.config.examples)
        batches = torch.split(torch.as_tensor(order, device=self.device), self.config.batch_size)
        done = self.optimizer.steps_taken - self.epoch * len(batches)
        self.model.train()
        for batch in batches[done:]:
            start = time.perf_counter()
            self._unread.append((self._step(batch), len(batch)))
            looking = batch is batches[-1] or len(self._unread) == _STEPS_BETWEEN_LOOKS[self.device.type]
            if looking:
                self._look()
            self.seconds += time.perf_counter() - start
            if self.progress is not None:
                self.progress(self.optimizer.steps_taken, self.config.steps)
            if looking:
                yield

    def _step(self, batch: Tensor) -> Tensor:
        """One step; returns a loss whose mean over the processes is that of the minibatch."""
        inputs, labels = self._examples(batch)
        weight = self.processes.weight(len(batch))
        smoothing = self.config.label_smoothing

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            with self._autocast():
                outputs = self.network(inputs)
            loss = nn.functional.cross_entropy(
                outputs.to(self.config.dtype), labels, label_smoothing=smoothing
            )
            if weight != 1:
                loss = weight * loss
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        loss = self.optimizer.step(closure)
        self.scheduler.step()
        return loss

    def _examples(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """This process's images and labels of a minibatch, augmented as (seed, step) decides."""
        inputs, labels = self.split.train_inputs[batch], self.split.train_labels[batch]
        if self.config.augmentation != "none":
            seed = generator(self.config.seed, "augmentation", self.optimizer.steps_taken).integers(2**63)
            noise = torch.Generator(self.device).manual_seed(int(seed))
            inputs = augment(inputs, self.config.augmentation, noise)
        return self._floats(self.processes.part(inputs)), self.processes.part(labels)

    def _floats(self, inputs: Tensor) -> Tensor:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return as_floats(inputs, self.config.dtype).contiguous(memory_format=layout)

    def _autocast(self) -> torch.autocast:
        low = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=low)

    def _look(self) -> None:
        """Read the losses since the last look, in one transfer."""
        losses = self.processes.mean(torch.stack([loss for loss, _ in self._unread])).tolist()
        first = self.optimizer.steps_taken - len(losses)
        for t, (loss, (_, n)) in enumerate(zip(losses, self._unread, strict=True), start=first):
            if not math.isfinite(loss):
                trial = int(self.coins.draw(t))
                raise FloatingPointError(f"the run diverged: the loss of step {t}, trial {trial}, is {loss}")
            self.loss_so_far += loss * n
        self._unread.clear()

    @torch.no_grad()
    def require_finite(self) -> None:
        """Check the weights, and what else the model keeps.

        Raises:
            FloatingPointError: one is not finite; the last step is named, its trial, the length of its
                direction, and the parameters.
        """
        kept = {name: x for name, x in self.model.state_dict().items() if x.is_floating_point()}
        sums = torch.stack(
            [x.sum(dtype=torch.float64) for x in kept.values()]
        )  # finite where all entries are
        if bool(sums.isfinite().all()):
            return
        wrong = [name for name, x in kept.items() if not bool(x.isfinite().all())]
        if not wrong:  # it was the sum that left the floating range
            return
        t = self.optimizer.steps_taken - 1
        size = float(length([p.grad for p in self.model.parameters() if p.grad is not None]))
        raise FloatingPointError(
            f"the run diverged: after step {t}, trial {int(self.coins.draw(t))}, whose direction has length "
            f"{size}, these are not finite: {', '.join(wrong)}"
        )

    @torch.no_grad()
    def _accuracy(self) -> float:
        """The fraction of the test examples that are classified rightly."""
        self.model.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        inputs, labels = (torch.split(part, _EVALUATED_TOGETHER) for part in self.split[2:])
        for images, truth in zip(inputs, labels, strict=True):
            with self._autocast():
                right += (self.model(self._floats(images)).argmax(dim=1) == truth).sum()
        return right.item() / len(self.split.test_labels)

    @property
    def _pairs(self) -> int:
        return self.optimizer.steps_taken + self.optimizer.perturbed_steps

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "train_loss": self.train_loss,
            "test_accuracy": self.test_accuracy,
            "loss_so_far": self.loss_so_far,
            "seconds": self.seconds,
            "data_sha256": self.data_sha256,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, in a run of the same config."""
        self.model.load_state_dict(state["model"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.train_loss, self.test_accuracy = state["train_loss"], state["test_accuracy"]
        self.loss_so_far, self.seconds = state["loss_so_far"], state["seconds"]

    def record(self) -> RunRecord:
        """The record of the finished run."""
        on_gpu = self.device.type == "cuda"
        return RunRecord(
            config=self.config,
            environment=environment(),
            threads=torch.get_num_threads(),
            train_loss=tuple(self.train_loss),
            test_accuracy=tuple(self.test_accuracy),
            steps=self.optimizer.steps_taken,
            pairs=self._pairs,
            predicted_pairs=self.coins.steps + self.coins.extra_pairs,
            expected_pairs=self.coins.steps + math.fsum(self.coins.probabilities),
            wall_seconds=self.seconds,
            weights_sha256=_weights_sha256(self.model),
            device=torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            processes=self.processes.world,
            data_sha256=self.data_sha256,
        )


def _load(config: TrainConfig, directory: Path | None, device: torch.device) -> tuple[Split, str]:
    """The examples, on the device, and their SHA-256: bytes stay bytes, made floats a minibatch at a time."""
    split = load_data(config.data, config.train_size, config.label_noise, config.seed, directory)
    split = split._replace(
        test_inputs=split.test_inputs[: config.test_size], test_labels=split.test_labels[: config.test_size]
    )
    digest = hashlib.sha256()
    for part in split:
        digest.update(part.contiguous().numpy().data)
    dtypes = (config.dtype if part.is_floating_point() else part.dtype for part in split)
    placed = Split(*(part.to(device, dtype) for part, dtype in zip(split, dtypes, strict=True)))
    return placed, digest.hexdigest()


def _model(config: TrainConfig) -> nn.Module:
    data = DATA[config.data]
    model = build_model(config.model, data.shape, data.classes, config.seed, config.dtype)
    layout = torch.channels_last if config.channels_last else torch.preserve_format
    return model.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def _optimizer(config: TrainConfig, network: nn.Module) -> RST:
    weights, rate, decay = network.parameters(), config.learning_rate, config.weight_decay
    base: torch.optim.Optimizer
    if config.base == "sgd":
        base = torch.optim.SGD(weights, rate, config.momentum, weight_decay=decay, nesterov=config.nesterov)
    else:
        base = torch.optim.AdamW(weights, rate, (config.momentum, 0.999), weight_decay=decay)
    return RST(
        base,
        config.schedule,
        config.steps,
        rho=config.rho,
        gamma=config.gamma if config.degree is None else None,
        degree=config.degree,
        max_gamma=config.max_gamma,
        seed=config.seed,
        trials=config.trials,
        ascent=config.ascent,
        adaptive=config.adaptive,
        clip_direction=config.clip,
        model=network,
    )


def _weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
