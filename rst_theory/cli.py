"""The command line: argument parsing and printing, nothing else.

The exit status of every command:

    0    done
    1    a defect of the program, with a traceback
    2    refused: bad arguments, a damaged file, a folder that another run uses or that cannot be written to,
         a full disk, too little memory, an extra that is not installed, a run that diverged; a line on stderr
         says which
    130  interrupted, by Ctrl-C or while training SIGTERM
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from rst_theory import schedules
from rst_theory.notation import Ascent, DomainError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress, TaskID

    from rst_theory.problems import Problem
    from rst_theory.schedules import Schedule
    from rst_theory.training import Epoch, TrainConfig

__all__ = ["app", "main"]

app = typer.Typer(
    name="rst-theory",
    help="Theory, simulation and training with Randomized Sharpness-Aware Training (arXiv 2203.09962).",
    epilog="Exit status: 0 done; 2 refused (arguments, files, disk, memory, a run that diverged), with a "
    "line that says why; 130 interrupted; 1 a defect of the program.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SCHEDULE_HELP = (
    "0.5, a preset such as linear1:p=0.3, a family such as cosine:0,1, or formula:0.5+0.5*cos(pi*t/T)"
)
DEFAULT_SCHEDULES = [
    "constant:p=0.5",
    "piecewise1:p=0.7",
    "linear1:p=0.3",
    "linear2:p=0.2",
    "cosine_up",
    "periodic:4",
]

Schedules = Annotated[list[str] | None, typer.Argument(metavar="[SCHEDULE]...", help=SCHEDULE_HELP)]
Steps = Annotated[int, typer.Option(help="T, the number of steps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Eta = Annotated[str, typer.Option(help="Step size: a number or a schedule.")]
Rho = Annotated[str, typer.Option(help="Radius: a number or a schedule.")]
Gamma = Annotated[str, typer.Option(help="Mixing coefficient: a number or a schedule.")]
ProblemName = Annotated[str, typer.Option("--problem", help="quadratic, logistic, rippled, …")]
AscentKind = Annotated[str, typer.Option("--ascent", help="normalized or unnormalized.")]
Seed = Annotated[int, typer.Option(help="Of the repetition.")]
Results = Annotated[Path, typer.Option(help="The folder that holds the tables.")]

_FILE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe."""

_INTERRUPTED = 130

REFUSALS = (ValueError, TypeError, ArithmeticError, OSError, ImportError, MemoryError)
"""What a bad argument, a bad file or a full disk raises, as opposed to a defect of the program."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0 done, 2 refused, 130 interrupted; see the top of this module.
    """
    try:
        status = app(args=arguments, standalone_mode=False)
        _flush()
    except typer.Exit as done:
        return int(done.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED  # which newer versions of Typer return
    except REFUSALS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        # Typer's own refusals (an unknown option, a missing argument) know how to show themselves.
        if not hasattr(error, "show"):
            raise
        error.show()
        return int(getattr(error, "exit_code", 2))
    if status == _INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return status if isinstance(status, int) else 0


def _flush() -> None:
    """Write out what was printed: Python itself would try as it ends, too late for a status.

    Raises:
        OSError: it cannot be written, to a full disk or to a reader that is gone.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again
        raise


@app.command()
def cost(
    schedule: Schedules = None, steps: Steps = 1000, kind: str = "independent", as_json: AsJson = False
) -> None:
    """The law of the extra propagation pairs of each schedule."""
    from rst_theory.cost import CostLaw, closed_form

    def row(text: str, parsed: Schedule) -> dict[str, Any]:
        law = CostLaw(parsed, steps, kind=kind)  # type: ignore[arg-type]
        low, high = law.interval(0.99)
        table = isinstance(parsed, schedules.Tabulated)
        return {
            "schedule": text,
            "formula": str(closed_form(parsed, steps if table else None).eventual_mean),
            "mean": law.mean,
            "sd": law.standard_deviation,
            "99 % low": low,
            "99 % high": high,
            "pairs vs SGD": law.pairs_relative_to_sgd,
            "pairs vs SAM": law.pairs_relative_to_sam,
        }

    title = f"Extra propagation pairs in {steps} steps, {kind} trials"
    _show(title, [row(text, parsed) for text, parsed in _schedules(schedule)], as_json)


@app.command()
def bounds(
    schedule: Schedules = None,
    problem: ProblemName = "quadratic",
    steps: Steps = 1000,
    eta: Eta = "0.2",
    rho: Rho = "0.2",
    gamma: Gamma = "1",
    ascent: AscentKind = "normalized",
    as_json: AsJson = False,
) -> None:
    """The bounds that hold for each run, or why none does."""
    from rst_theory.bounds import ALL, RunBound

    objective = _problem(problem)
    gap = float(objective.gap(objective.start))
    distance = None
    if objective.minimizer is not None:
        distance = float(objective.squared_distance(objective.start)) ** 0.5

    def row(text: str, parsed: Schedule, bound: RunBound) -> dict[str, Any]:
        value, note = None, ""
        if missing := bound.missing(objective):
            note = f"assumes {', '.join(sorted(a.name for a in missing))}"
        else:
            try:
                value = bound.evaluate(
                    schedule=parsed,
                    steps=steps,
                    eta=schedules.parse(eta),
                    rho=schedules.parse(rho),
                    gamma=schedules.parse(gamma),
                    constants=objective.constants,
                    gap=gap,
                    distance=distance,
                )
            except DomainError as error:
                note = str(error)
        return {
            "schedule": text,
            "bound": bound.name,
            "of": bound.metric.name,
            "value": value,
            "why not": note,
        }

    kind = _ascent(ascent)
    spoken = [bound for bound in ALL.values() if isinstance(bound, RunBound) and bound.ascent == kind]
    rows: list[dict[str, Any]] = []
    for text, parsed in _schedules(schedule):
        found = [row(text, parsed, bound) for bound in spoken]
        rows += [r for r in found if r["value"] is not None] or found
    _show(f"Bounds on {objective!r}, {steps} steps, eta {eta}, rho {rho}, gamma {gamma}", rows, as_json)


@app.command()
def certify(
    schedule: Schedules = None,
    steps: Annotated[int, typer.Option(help="N, the number of steps: up to about 5.")] = 3,
    eta: Eta = "0.5",
    rho: Rho = "0.2",
    gamma: Gamma = "1",
    ascent: AscentKind = "unnormalized",
    function_class: Annotated[str, typer.Option(help="smooth, convex, strongly_convex or pl.")] = "smooth",
    metric: Annotated[
        str, typer.Option(help="squared_gradient_norm, gap, final_gap, final_squared_distance, …")
    ] = "squared_gradient_norm",
    smoothness: Annotated[float, typer.Option("--L", help="L, the smoothness constant.")] = 1.0,
    mu: Annotated[float, typer.Option(help="The curvature constant, where the class has one.")] = 0.0,
    gap: Annotated[float, typer.Option(help="f(x_0) - f_star.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """The exact worst case over a function class, as a semidefinite program."""
    from rst_theory.certificates import certify as worst_case

    rows = []
    for text, parsed in _schedules(schedule):
        found = worst_case(
            parsed,
            steps=steps,
            eta=schedules.parse(eta),
            rho=schedules.parse(rho),
            gamma=schedules.parse(gamma),
            function_class=function_class,  # type: ignore[arg-type]  # checked there, like the next two
            ascent=_ascent(ascent),
            metric=metric,  # type: ignore[arg-type]
            L=smoothness,
            mu=mu,
            gap=gap,
        )
        rows.append(
            {
                "schedule": text,
                "worst case": found.value,
                "exact": found.exact,
                "status": found.status,
                "largest residual": max(found.residuals),
            }
        )
    _show(f"Worst {metric} of {steps} steps, {function_class}, {ascent} ascent", rows, as_json)


@app.command()
def simulate(
    schedule: Schedules = None,
    problem: ProblemName = "quadratic",
    steps: Steps = 1000,
    eta: Eta = "0.2",
    rho: Rho = "0.2",
    gamma: Gamma = "1",
    ascent: AscentKind = "normalized",
    replicas: Annotated[int, typer.Option(help="Independent runs.")] = 256,
    seed: Seed = 0,
    backend: Annotated[str, typer.Option(help="auto, numba, numpy or torch.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Monte Carlo of each schedule, beside the smallest bound that applies."""
    from rst_theory.bounds import best
    from rst_theory.simulation import simulate as run

    objective = _problem(problem)
    gap = float(objective.gap(objective.start))
    etas, rhos, gammas = map(schedules.parse, (eta, rho, gamma))
    kind = _ascent(ascent)
    rows = []
    with _progress() as progress:
        for text, parsed in _schedules(schedule):
            task = progress.add_task(text, total=1.0)
            smallest = best(
                objective,
                schedule=parsed,
                steps=steps,
                eta=etas,
                rho=rhos,
                gamma=gammas,
                gap=gap,
                ascent=kind,
            )
            trajectories = run(
                objective,
                parsed,
                steps=steps,
                eta=etas,
                rho=rhos,
                gamma=gammas,
                ascent=kind,
                replicas=replicas,
                seed=seed,
                backend=cast("Any", backend),  # checked there
                progress=partial(_tell, progress, task),
            )
            measured = trajectories.weighted(smallest.bound)
            low, high = measured.interval(0.99)
            rows.append(
                {
                    "schedule": text,
                    "measured": measured.mean,
                    "99 % low": low,
                    "99 % high": high,
                    "bound": smallest.value,
                    "bound/measured": smallest.value / measured.mean if measured.mean > 0 else None,
                    "from": smallest.bound.name,
                    "final gap": trajectories.final_gap.mean,
                    "pairs a step": 1 + float(trajectories.extra_pairs.mean()) / steps,
                }
            )
    _show(f"{replicas} runs on {objective!r}, eta {eta}, rho {rho}, gamma {gamma}", rows, as_json)


@app.command()
def train(
    schedule: Annotated[str, typer.Option(help=SCHEDULE_HELP)] = "0.5",
    gamma: Gamma = "1",
    degree: Annotated[str | None, typer.Option(help="In place of gamma: gamma_t = degree / p_t.")] = None,
    max_gamma: Annotated[float | None, typer.Option(help="A cap on that gamma_t.")] = None,
    rho: Rho = "0.1",
    adaptive: Annotated[bool, typer.Option("--adaptive", help="Radii relative to the weights.")] = False,
    ascent: AscentKind = "normalized",
    trials: Annotated[str, typer.Option(help="independent or systematic.")] = "independent",
    model: Annotated[str, typer.Option(help="mlp, cnn, resnet18, wrn28-10 or vit.")] = "cnn",
    data: Annotated[str, typer.Option(help="digits, mnist, fashion-mnist, cifar10 or cifar100.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Where the files of the data are.")] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Training examples; all, or 900 digits, if left out.")
    ] = None,
    label_noise: Annotated[
        float | None, typer.Option(help="Fraction of training labels redrawn; 0.3 for digits, else 0.")
    ] = None,
    augmentation: Annotated[
        str, typer.Option(help="none, flip, crop, crop-flip or crop-flip-cutout.")
    ] = "none",
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Examples in a minibatch.")] = 30,
    base: Annotated[str, typer.Option(help="The base optimizer: sgd or adamw.")] = "sgd",
    learning_rate: Annotated[float, typer.Option(help="The largest of the run.")] = 0.05,
    rate: Annotated[str, typer.Option(help="How it falls: cosine, step or constant.")] = "cosine",
    warmup: Annotated[float, typer.Option(help="Share of the steps in which it rises.")] = 0.0,
    momentum: Annotated[float, typer.Option(help="Of SGD, or AdamW's first beta.")] = 0.9,
    nesterov: Annotated[bool, typer.Option("--nesterov", help="Nesterov's momentum.")] = False,
    weight_decay: Annotated[float, typer.Option(help="Of the base optimizer.")] = 0.0,
    clip: Annotated[float | None, typer.Option(help="The largest norm of a direction.")] = None,
    label_smoothing: Annotated[float, typer.Option(help="Weight of the uniform distribution.")] = 0.0,
    precision: Annotated[str, typer.Option(help="float32, float64 or bfloat16.")] = "float32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="The layout of images.")] = False,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Of torch, on the CPU.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps checkpoint and record; the same command resumes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network, alone or under torchrun; its exact cost is told before it starts."""
    from rst_theory import training

    config = training.TrainConfig(
        schedules.parse(schedule),
        gamma=schedules.parse(gamma),
        rho=schedules.parse(rho),
        degree=None if degree is None else schedules.parse(degree),
        max_gamma=max_gamma,
        adaptive=adaptive,
        ascent=_ascent(ascent),
        trials=trials,  # type: ignore[arg-type]  # checked there, like the next three
        base=base,  # type: ignore[arg-type]
        rate=rate,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        model=model,
        data=data,
        train_size=train_size,
        label_noise=label_noise if label_noise is not None else 0.3 if data == "digits" else 0.0,
        augmentation=augmentation,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup=warmup,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        clip=clip,
        label_smoothing=label_smoothing,
        channels_last=channels_last,
        seed=seed,
    )
    to_people = training.is_first()
    if to_people:
        print(_plan(config), file=sys.stderr)
    with _TrainingTable(config) as table:
        record = training.train(
            config,
            folder,
            table.step,
            threads,
            data_dir=data_dir,
            device=device,
            after_epoch=table.epoch,
        )
    if not to_people:
        return
    if as_json:
        print(json.dumps(record.to_dict(), indent=1))
        return
    row = {
        "schedule": schedule,
        "test accuracy": record.final_test_accuracy,
        "train loss": record.train_loss[-1],
        "pairs": record.pairs,
        "pairs a step": record.pairs_per_step,
        "images/s": record.images_per_second,
        "seconds": record.wall_seconds,
        "weights": record.weights_sha256[:12],
    }
    _show(f"{model} on {data}, {epochs} epochs, seed {seed}", [row], as_json=False)


@app.command()
def figures(
    results: Results = Path("experiments/results"),
    output: Annotated[Path, typer.Option(help="Where PNG and SVG go.")] = Path("figures"),
    as_json: AsJson = False,
) -> None:
    """Draw every figure that the tables of a results folder allow."""
    from rst_theory.plots import draw_all

    paths = draw_all(results, output)
    _show(f"Figures from {results}", [{"figure": str(path)} for path in paths], as_json)


@app.command()
def report(
    results: Results = Path("experiments/results"),
    output: Annotated[Path, typer.Option(help="The page.")] = Path("report/index.html"),
    as_json: AsJson = False,
) -> None:
    """Render a results folder as one self-contained page."""
    from rst_theory.report import render

    _show("Report", [{"page": str(render(results, output))}], as_json)


def _plan(config: TrainConfig) -> str:
    """What a run will do and cost; the trials are known beforehand."""
    coins = config.coins()
    pairs = coins.steps + coins.extra_pairs
    lines = [
        f"{config.model} on {config.data}: {config.parameters():,} parameters, {coins.steps:,} steps, "
        f"{config.steps_per_epoch:,} in each of {config.epochs} epochs",
        f"{pairs:,} propagation pairs planned, {coins.extra_pairs / coins.steps:.1%} of the steps perturbed",
    ]
    if config.degree is not None:
        gamma = config.coefficients()
        attained = float((coins.probabilities * gamma).mean())
        lines.append(f"mean degree of regularization {attained:.4g}, gamma up to {gamma.max():.4g}")
    return "\n".join(lines)


class _TrainingTable:
    """The epochs of a run: a live table above a bar of the steps on a terminal, elsewhere a line for each."""

    def __init__(self, config: TrainConfig) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        coins = config.coins()
        self._pairs = coins.steps + coins.extra_pairs
        self._config = config
        self._rows: list[dict[str, str]] = []
        self._bar = Progress("step", MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        self._task = self._bar.add_task("", total=coins.steps)
        console = Console(stderr=True)
        self._live = Live(self._bar, console=console) if console.is_terminal else None

    def __enter__(self) -> _TrainingTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, done: int, total: int) -> None:
        """After a step."""
        self._bar.update(self._task, completed=done)

    def epoch(self, epoch: Epoch) -> None:
        """After an epoch."""
        left = epoch.seconds * (self._pairs / epoch.pairs - 1)
        row = {
            "epoch": f"{epoch.number}/{self._config.epochs}",
            "train loss": f"{epoch.train_loss:.4f}",
            "test accuracy": f"{epoch.test_accuracy:.4f}",
            "pairs": f"{epoch.pairs:,} of {self._pairs:,}",
            "images/s": f"{epoch.number * self._config.examples / max(epoch.seconds, 1e-9):,.0f}",
            "time left": str(timedelta(seconds=round(left))),
        }
        if self._live is None:
            print(", ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
        else:
            self._rows.append(row)
            self._live.update(self._drawn(self._live.console.height))

    def _drawn(self, height: int) -> Group:
        """The last epochs, as many as the terminal has room for, and the bar."""
        from rich import box
        from rich.console import Group
        from rich.table import Table

        table = Table(*self._rows[0], box=box.SIMPLE_HEAD)
        for column in table.columns:
            column.justify = "right"
        for row in self._rows[-max(1, height - 6) :]:
            table.add_row(*row.values())
        return Group(table, self._bar)


def _schedules(texts: list[str] | None) -> list[tuple[str, Schedule]]:
    return [(text, schedules.parse(text)) for text in texts or DEFAULT_SCHEDULES]


def _problem(name: str) -> Problem:
    from rst_theory.problems import BY_NAME

    makers: Mapping[str, Callable[[], Problem]] = BY_NAME
    _one_of("problem", name, tuple(makers))
    return makers[name]()


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def _ascent(value: str) -> Ascent:
    _one_of("ascent", value, get_args(Ascent))
    return cast("Ascent", value)


def _tell(progress: Progress, task: TaskID, done: float) -> None:
    progress.update(task, completed=done)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _show(title: str, rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Rows as JSON, or as a table with numbers to the right at four significant digits."""
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for column in rows[0] if rows else ():
        number = any(isinstance(row[column], int | float) for row in rows)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        cells = (f"{v:.4g}" if isinstance(v, float) else "–" if v is None else str(v) for v in row.values())
        table.add_row(*map(Text, cells))
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
