"""The training loop: interrupt it anywhere, call it again, and it ends with the same weights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from rst_theory.files import alone_in, clear_leftovers
from rst_theory.notation import natural
from rst_theory.training.checkpoints import load_checkpoint, save_checkpoint
from rst_theory.training.config import TrainConfig
from rst_theory.training.data import Split, load_data
from rst_theory.training.interrupts import deferred
from rst_theory.training.processes import Processes, joined
from rst_theory.training.records import RunRecord, load_record, save_record
from rst_theory.training.run import Epoch, Progress, Run

__all__ = ["train", "trained"]

SECONDS_BETWEEN_SAVES = 60.0


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
    once. The global state of torch is left as it was found. Weights that are not finite are never saved:
    after an error of any kind the last checkpoint is one to go on from.

    Under `torchrun` the run is shared by its processes; see `rst_theory.training.processes`.

    Args:
        config: what to run.
        folder: for the checkpoint and the record of this run alone; made if it is not there, and locked while
            the run lasts. All processes must see the same one.
        progress: called after each step with (steps done, all steps); on rank 0 alone.
        threads: torch threads for this run; as they are if left out.
        data_dir: where the files of the data are; the digits need none.
        device: "cpu", "cuda" or "cuda:1".
        after_epoch: called after each epoch; on rank 0 alone.

    Raises:
        ImportError: the data need an extra that is not installed; names it.
        OSError: a file of the data is not there; the folder cannot be written to, or the disk is full; as a
            BlockingIOError, another run is writing to the folder.
        ValueError: the folder holds another run, or a file that is damaged or none of ours; damaged data,
            other data than the checkpoint's, or another number of examples than the config says; no such
            device.
        FloatingPointError: the run diverged, that is, a loss, the gradient of a perturbed step, or a weight
            is not finite; the message has the step, its trial, and the names of the parameters.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    record_file = None if folder is None else Path(folder) / "record.json"
    if record_file is not None and record_file.exists():
        record = load_record(record_file)
        config.require_same(record.config.to_dict(), record_file)
        return record
    directory = None if data_dir is None else Path(data_dir)
    with _threads(threads), joined(device) as processes:
        if not processes.first:
            progress = after_epoch = None
        run = Run(config, processes, directory, progress, after_epoch)
        if record_file is None:
            for _ in run.looks():
                pass
            return run.record()
        with alone_in(record_file.parent) if processes.first else contextlib.nullcontext():
            checkpoint = record_file.with_name("checkpoint.pt")
            if processes.first:
                clear_leftovers(checkpoint)
                clear_leftovers(record_file)
            _run_with_checkpoints(run, checkpoint)
            record = run.record()
            if processes.first:
                save_record(record, record_file)
    return record


def trained(
    config: TrainConfig,
    folder: str | Path,
    *,
    data_dir: str | Path | None = None,
) -> tuple[nn.Module, Split]:
    """The network of a run as its last checkpoint has it, on the CPU and set to evaluate, with all its data.

    Args:
        config: of the run.
        folder: which `train` was given.
        data_dir: where the files of the data are; the digits need none.

    Raises:
        FileNotFoundError: there is no checkpoint in the folder.
        ImportError, OSError, ValueError: as `train`.
    """
    directory = None if data_dir is None else Path(data_dir)
    checkpoint = Path(folder) / "checkpoint.pt"
    if not checkpoint.exists():
        raise FileNotFoundError(f"no checkpoint of a training run at {checkpoint}")
    run = Run(config, Processes(torch.device("cpu")), directory)
    _restore(run, checkpoint)
    split = load_data(config.data, config.train_size, config.label_noise, config.seed, directory)
    return run.model.eval(), split


def _run_with_checkpoints(run: Run, checkpoint: Path) -> None:
    """Go on from the checkpoint, where there is one, to the end or to a request to stop."""
    if checkpoint.exists():
        _restore(run, checkpoint)
    _require_equal_progress(run, checkpoint)
    saved = time.monotonic()
    with deferred() as request:
        for epoch_finished in run.looks():
            stop = run.processes.any(bool(request.name))
            if epoch_finished or stop or time.monotonic() - saved >= SECONDS_BETWEEN_SAVES:
                _save(run, checkpoint)
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt(f"stopped by {request.name} after step {run.optimizer.steps_taken}")


def _save(run: Run, checkpoint: Path) -> None:
    run.require_finite()
    if run.processes.first:
        save_checkpoint(run.state_dict(), checkpoint)


def _restore(run: Run, checkpoint: Path) -> None:
    """Go on from a checkpoint.

    Raises:
        ValueError: the file is damaged or no checkpoint, or one of another run, of other data or of an older
            version.
    """
    state = load_checkpoint(checkpoint)
    if not isinstance(state.get("config"), dict):
        raise ValueError(f"{checkpoint} is not a checkpoint of a training run: it has no config")
    run.config.require_same(state["config"], checkpoint)
    if missing := run.state_dict().keys() - state.keys() - {"data_sha256"}:
        raise ValueError(
            f"{checkpoint} is of an older version: it has no {', '.join(sorted(missing))}. "
            "Delete it to begin the run again"
        )
    if state.get("data_sha256", run.data_sha256) != run.data_sha256:
        raise ValueError(
            f"{checkpoint} is of a run on other examples than those that {run.config.data} holds now: "
            "a file of the data was changed or is damaged"
        )
    try:
        run.load_state_dict(state)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint} does not fit its config: {error}") from error


def _require_equal_progress(run: Run, checkpoint: Path) -> None:
    """Check that all processes go on from the same step.

    Raises:
        ValueError: they do not.
    """
    steps = run.optimizer.steps_taken
    if run.processes.any(run.processes.from_first(lambda: steps) != steps):
        raise ValueError(f"{checkpoint} must be one file that all processes see")


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else natural("threads", threads, least=1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
