"""The training loop: interrupt it anywhere, call it again, and it ends with the same weights."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rst_theory.files import write_atomically
from rst_theory.notation import natural
from rst_theory.optim import RST
from rst_theory.training.config import TrainConfig
from rst_theory.training.data import DATA, Split, as_floats, augment, load_data
from rst_theory.training.interrupts import deferred
from rst_theory.training.models import build_model
from rst_theory.training.processes import Processes, joined
from rst_theory.training.rates import rate_scheduler
from rst_theory.training.records import RunRecord, environment, load_record, save_record
from rst_theory.training.seeds import generator

__all__ = ["Epoch", "Progress", "train"]

Progress = Callable[[int, int], None]
"""Called after each step with the number of steps done and of all steps."""

SECONDS_BETWEEN_SAVES = 60.0
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


def train(
    config: TrainConfig,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    after_epoch: Callable[[Epoch], None] | None = None,
) -> RunRecord:
    """Train a network and return the record of the run.

    With a folder, a checkpoint is kept in it, written after each epoch and every minute, and the record at
    the end; a call with the same config goes on from the checkpoint, or returns the record. However often a
    run is interrupted, its final weights are bit for bit those of an uninterrupted one (on one CPU, with
    equal threads). Ctrl-C and SIGTERM take effect after the step at hand, when it is saved; a second one at
    once. The global state of torch is left as it was found.

    Under `torchrun` the run is shared by its processes; see `rst_theory.training.processes`.

    Args:
        config: what to run.
        folder: for the checkpoint and the record of this run alone; made if it is not there. All processes
            must see the same one.
        progress: called after each step with (steps done, all steps); on rank 0 alone.
        threads: torch threads for this run; as they are if left out.
        data_dir: where the files of the data are; the digits need none.
        device: "cpu", "cuda" or "cuda:1".
        after_epoch: called after each epoch; on rank 0 alone.

    Raises:
        ImportError: the data need an extra that is not installed; names it.
        OSError: a file of the data is not there.
        ValueError: the folder holds another run, or a file that is none of ours; damaged data, or another
            number of examples than the config says; no such device.
        FloatingPointError: the run diverged, that is, a loss or the gradient of a perturbed step is not
            finite.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    record_file = None if folder is None else Path(folder) / "record.json"
    if record_file is not None and record_file.exists():
        record = load_record(record_file)
        config.require_same(record.config.to_dict(), record_file)
        return record
    with _threads(threads), joined(device) as processes:
        run = _Run(config, processes, data_dir)
        if processes.first:
            run.progress, run.after_epoch = progress, after_epoch
        if folder is None:
            for _ in run.looks():
                pass
        else:
            _run_with_checkpoints(run, Path(folder) / "checkpoint.pt")
        record = run.record()
        if record_file is not None and processes.first:
            save_record(record, record_file)
    return record


def _run_with_checkpoints(run: _Run, checkpoint: Path) -> None:
    """Go on from the checkpoint, where there is one, to the end or to a request to stop."""
    if checkpoint.exists():
        run.restore(checkpoint)
    run.require_equal_progress(checkpoint)
    saved = time.monotonic()
    with deferred() as request:
        for epoch_finished in run.looks():
            stop = run.processes.any(bool(request.name))
            if epoch_finished or stop or time.monotonic() - saved >= SECONDS_BETWEEN_SAVES:
                run.save(checkpoint)
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt(f"{request.name} after step {run.optimizer.steps_taken}: saved")


class _Run:
    """A run between two steps: model, optimizer, learning rate, history."""

    progress: Progress | None = None
    after_epoch: Callable[[Epoch], None] | None = None

    def __init__(self, config: TrainConfig, processes: Processes, data_dir: str | Path | None) -> None:
        self.config, self.processes, self.device = config, processes, processes.device
        self.coins = config.coins()
        self.split = _load(config, data_dir, self.device)
        data = DATA[config.data]
        model = build_model(config.model, data.shape, data.classes, config.seed, config.dtype)
        if config.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model.to(self.device)
        self.network = processes.wrap(self.model)
        self.optimizer = _optimizer(config, self.network)
        self.scheduler = rate_scheduler(self.optimizer, config.rate, config.steps, config.warmup)
        self.train_loss: list[float] = []
        self.test_accuracy: list[float] = []
        self.loss_so_far = 0.0
        self.seconds = 0.0
        self.unread: list[tuple[Tensor, int]] = []

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.train_loss)

    def looks(self) -> Iterator[bool]:
        """Train to the end; yields after each look at the losses whether an epoch is finished."""
        while self.epoch < self.config.epochs:
            for _ in self._train_epoch():
                yield False
            self.test_accuracy.append(self.processes.from_first(self._accuracy))
            self.train_loss.append(self.loss_so_far / self.config.examples)
            self.loss_so_far = 0.0
            if self.after_epoch is not None:
                self.after_epoch(self._finished_epoch())
            yield True

    def _train_epoch(self) -> Iterator[None]:
        """What is left of a pass over the training data, in an order that (seed, epoch) alone decides."""
        order = generator(self.config.seed, "batch order", self.epoch).permutation(self.config.examples)
        batches = torch.split(torch.as_tensor(order, device=self.device), self.config.batch_size)
        done = self.optimizer.steps_taken - self.epoch * len(batches)
        self.model.train()
        for batch in batches[done:]:
            start = time.perf_counter()
            self.unread.append((self._step(batch), len(batch)))
            looking = batch is batches[-1] or len(self.unread) == _STEPS_BETWEEN_LOOKS[self.device.type]
            if looking:
                self._look()
            self.seconds += time.perf_counter() - start
            if self.progress is not None:
                self.progress(self.optimizer.steps_taken, self.config.steps)
            if looking:
                yield

    def _step(self, batch: Tensor) -> Tensor:
        """One step; returns the loss, of which the mean over the processes is that of the minibatch."""
        inputs, labels = self._examples(batch)
        weight = self.processes.weight(len(batch))

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            with self._autocast():
                outputs = self.network(inputs)
                loss = nn.functional.cross_entropy(
                    outputs, labels, label_smoothing=self.config.label_smoothing
                )
            loss = loss if weight == 1 else weight * loss
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
        on = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on)

    def _look(self) -> None:
        """Read the losses since the last look, in one transfer.

        Raises:
            FloatingPointError: one is not finite.
        """
        losses = self.processes.mean(torch.stack([loss for loss, _ in self.unread])).tolist()
        first = self.optimizer.steps_taken - len(losses)
        for t, (loss, (_, n)) in enumerate(zip(losses, self.unread, strict=True), start=first):
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the run diverged: the loss of step {t}, with trial {self.coins.draw(t):d}, is {loss}"
                )
            self.loss_so_far += loss * n
        self.unread.clear()

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

    def _finished_epoch(self) -> Epoch:
        steps = self.optimizer.steps_taken
        pairs = steps + self.optimizer.perturbed_steps
        return Epoch(self.epoch, self.train_loss[-1], self.test_accuracy[-1], steps, pairs, self.seconds)

    def save(self, checkpoint: Path) -> None:
        """Write all that the rest of the run depends on, atomically; rank 0 alone does."""
        if not self.processes.first:
            return
        state = {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "train_loss": self.train_loss,
            "test_accuracy": self.test_accuracy,
            "loss_so_far": self.loss_so_far,
            "seconds": self.seconds,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(checkpoint, buffer.getvalue())

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: the file is no checkpoint, or one of another run.
        """
        try:
            state: dict[str, Any] = torch.load(checkpoint, map_location=self.device, weights_only=True)
            saved = state["config"]
            self.train_loss, self.test_accuracy = state["train_loss"], state["test_accuracy"]
            self.loss_so_far, self.seconds = state["loss_so_far"], state["seconds"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"{checkpoint} is not a checkpoint of a training run: {error}") from error
        self.config.require_same(saved, checkpoint)
        self.model.load_state_dict(state["model"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.optimizer.load_state_dict(state["optimizer"])

    def require_equal_progress(self, checkpoint: Path) -> None:
        """Check that all processes go on from one place.

        Raises:
            ValueError: they do not.
        """
        steps = self.optimizer.steps_taken
        if self.processes.any(self.processes.from_first(lambda: steps) != steps):
            raise ValueError(
                f"{checkpoint} is not the same file for every process: the folder must be shared"
            )

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
            pairs=self.optimizer.steps_taken + self.optimizer.perturbed_steps,
            predicted_pairs=self.coins.steps + self.coins.extra_pairs,
            expected_pairs=self.coins.steps + math.fsum(self.coins.probabilities),
            wall_seconds=self.seconds,
            weights_sha256=_weights_sha256(self.model),
            device=torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            processes=self.processes.world,
        )


def _load(config: TrainConfig, data_dir: str | Path | None, device: torch.device) -> Split:
    """The examples, on the device: bytes stay bytes, and are made floats a minibatch at a time."""
    directory = None if data_dir is None else Path(data_dir)
    split = load_data(config.data, config.train_size, config.label_noise, config.seed, directory)
    dtypes = (config.dtype if part.is_floating_point() else part.dtype for part in split)
    return Split(*(part.to(device, dtype) for part, dtype in zip(split, dtypes, strict=True)))


def _optimizer(config: TrainConfig, network: nn.Module) -> RST:
    """RST around the base optimizer."""
    if config.base == "sgd":
        base: torch.optim.Optimizer = torch.optim.SGD(
            network.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
    else:
        base = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )
    return RST(
        base,
        config.schedule,
        config.steps,
        rho=config.rho,
        gamma=config.gamma,
        seed=config.seed,
        trials=config.trials,
        ascent=config.ascent,
    )


def _weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else natural("threads", threads, least=1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
