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
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from rst_theory.files import write_atomically
from rst_theory.notation import natural
from rst_theory.optim import RST
from rst_theory.training.config import TrainConfig
from rst_theory.training.data import DATA, Split, load_data
from rst_theory.training.models import build_model
from rst_theory.training.records import RunRecord, environment, load_record, save_record
from rst_theory.training.seeds import generator

__all__ = ["Progress", "train"]

Progress = Callable[[int, int], None]
"""Called after each step with the number of steps done and of all steps."""


def train(
    config: TrainConfig,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> RunRecord:
    """Train a network and return the record of the run.

    With a folder, a checkpoint is kept in it after each epoch and the record at the end; a call with the
    same config goes on from the checkpoint, or returns the record. However often a run is interrupted, its
    final weights are bit for bit those of an uninterrupted one (on one machine, with equal threads). The
    global state of torch is left as it was found.

    Args:
        config: what to run.
        folder: for the checkpoint and the record of this run alone; made if it is not there.
        progress: called after each step with (steps done, all steps).
        threads: torch threads for this run; as they are if left out.

    Raises:
        ImportError: the data need an extra that is not installed; names it.
        ValueError: the folder holds another run, or a file that is none of ours.
        FloatingPointError: the run diverged, that is, a loss or the gradient of a perturbed step is not
            finite.
    """
    record_file = None if folder is None else Path(folder) / "record.json"
    if record_file is not None and record_file.exists():
        record = load_record(record_file)
        config.require_same(record.config.to_dict(), record_file)
        return record
    with _threads(threads):
        run = _Run(config)
        checkpoint = None if folder is None else Path(folder) / "checkpoint.pt"
        if checkpoint is not None and checkpoint.exists():
            run.restore(checkpoint)
        while run.epoch < config.epochs:
            run.train_epoch(progress)
            if checkpoint is not None:
                run.save(checkpoint)
        record = run.record()
    if record_file is not None:
        save_record(record, record_file)
    return record


class _Run:
    """A run between two epochs: model, optimizer, learning rate, history."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        data, dtype = DATA[config.data], getattr(torch, config.precision)
        split = load_data(config.data, config.train_size, config.label_noise, config.seed)
        self.split = Split(*(part.to(dtype) if part.is_floating_point() else part for part in split))
        self.model = build_model(config.model, data.shape, data.classes, config.seed, dtype)
        base = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.optimizer = RST(
            base,
            config.schedule,
            config.steps,
            rho=config.rho,
            gamma=config.gamma,
            seed=config.seed,
            trials=config.trials,
            ascent=config.ascent,
        )
        self.scheduler = CosineAnnealingLR(self.optimizer, T_max=config.steps)
        self.train_loss: list[float] = []
        self.test_accuracy: list[float] = []
        self.seconds = 0.0

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.train_loss)

    def train_epoch(self, progress: Progress | None) -> None:
        """One pass over the training data, in an order that (seed, epoch) alone decides."""
        order = generator(self.config.seed, "batch order", self.epoch).permutation(self.config.train_size)
        self.model.train()
        total = 0.0
        for batch in torch.split(torch.as_tensor(order), self.config.batch_size):
            start = time.perf_counter()
            loss = self._step(self.split.train_inputs[batch], self.split.train_labels[batch])
            self.seconds += time.perf_counter() - start
            total += loss * len(batch)
            if progress is not None:
                progress(self.optimizer.steps_taken, self.config.steps)
        if not math.isfinite(total):
            raise FloatingPointError(f"the run diverged: the loss of epoch {self.epoch} is {total}")
        self.test_accuracy.append(self._accuracy())
        self.train_loss.append(total / self.config.train_size)

    def _step(self, inputs: Tensor, labels: Tensor) -> float:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(inputs), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        loss = self.optimizer.step(closure)
        self.scheduler.step()
        return loss.item()

    @torch.no_grad()
    def _accuracy(self) -> float:
        self.model.eval()
        guesses = self.model(self.split.test_inputs).argmax(dim=1)
        return float((guesses == self.split.test_labels).double().mean())

    def save(self, checkpoint: Path) -> None:
        """Write all that the rest of the run depends on, atomically."""
        state = {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "train_loss": self.train_loss,
            "test_accuracy": self.test_accuracy,
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
            state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
            saved = state["config"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"{checkpoint} is not a checkpoint of a training run: {error}") from error
        self.config.require_same(saved, checkpoint)
        self.model.load_state_dict(state["model"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.train_loss, self.test_accuracy = state["train_loss"], state["test_accuracy"]
        self.seconds = state["seconds"]

    def record(self) -> RunRecord:
        """The record of the finished run."""
        coins = self.config.coins()
        return RunRecord(
            config=self.config,
            environment=environment(),
            threads=torch.get_num_threads(),
            train_loss=tuple(self.train_loss),
            test_accuracy=tuple(self.test_accuracy),
            steps=self.optimizer.steps_taken,
            pairs=self.optimizer.steps_taken + self.optimizer.perturbed_steps,
            predicted_pairs=coins.steps + coins.extra_pairs,
            expected_pairs=coins.steps + math.fsum(coins.probabilities),
            wall_seconds=self.seconds,
            weights_sha256=_weights_sha256(self.model),
        )


def _weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else natural("threads", threads, least=1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
