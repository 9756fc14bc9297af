"""Write `paper_notes/reliability.md`: every promise, what holds it, and its figures from the tables.

`python -m tests.campaigns.note`, after a campaign has written its table. One that is not there yet is said.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rst_theory.files import write_atomically
from tests.campaigns import figures
from tests.campaigns.figures import Figures
from tests.campaigns.promises import SECTIONS, Promise, Section

__all__ = ["CAMPAIGNS", "NOTE", "command", "note"]

ROOT = Path(__file__).parents[2]
NOTE = ROOT / "paper_notes" / "reliability.md"
WIDTH = 118
NOT_RUN = "not run yet"


class Campaign(NamedTuple):
    """What is too long for `make test`: its module, its table, what it does, and its figures in all."""

    module: str
    table: str
    words: str
    figures: Callable[[], Figures]


CAMPAIGNS = (
    Campaign(
        "faults",
        "kills",
        "kills a training, a grid, a report and a pool of tasks, at random moments and at every write, and "
        "runs each again to its end",
        figures.kills,
    ),
    Campaign(
        "limits",
        "limits",
        "uses the package at its limits, each case in a process of its own, with its time and memory",
        figures.limits,
    ),
    Campaign(
        "fuzz",
        "fuzz",
        "feeds every parser with bytes, guided by coverage, and the numeric functions with random arguments",
        figures.fuzz,
    ),
    Campaign(
        "mutants",
        "mutants",
        "changes the package in one place and runs the tests of that line, for each place",
        figures.mutants,
    ),
    Campaign("branches", "branches", "counts the lines and branches that the tests run", figures.coverage),
    Campaign(
        "versions",
        "versions",
        "runs the tests, and compares numbers, under other versions of Python and of the libraries",
        figures.versions,
    ),
    Campaign(
        "audit",
        "audit",
        "looks up the known vulnerabilities of every pinned package",
        figures.audit,
    ),
    Campaign(
        "fresh_clone",
        "fresh_clone",
        "clones the last commit, sets it up in an environment of its own, and runs the checks and the tests",
        figures.suite,
    ),
    Campaign(
        "power",
        "power",
        "computes the false alarms of every statistical test, and the smallest defect that it finds",
        figures.power,
    ),
)

HEAD = """\
{promises} promises, of which {short} fall short of what was asked or wait for a run. Each of these says so in
bold, and all are listed under [what falls short](#short).

`make test` runs every test that is named here. What is too long for it are the campaigns below; most go on
where they were stopped, and keep their figures in `tests/campaigns/results/`. The figures are those of the
last run, of which the history of these tables tells when; times are of two cores that did other work too.

Tests are named `file::test`, without `tests/test_` and `test_`; a name alone is a whole file. Of a
statistical test the smallest defect is told that it finds with probability .99. Everything ran on CPUs.
`python -m tests.campaigns.note` writes this page: what a table holds is not typed by hand.
"""


def note() -> str:
    """The page in Markdown."""
    sections = [(section, [_read(promise) for promise in section.promises]) for section in SECTIONS]
    read = [told for _, each in sections for told in each]
    head = HEAD.format(promises=len(read), short=sum(bool(told.short) for told in read))
    parts = [
        "# Reliability: every promise, the test that holds it, and its figures",
        *map(_filled, head.split("\n\n")),
        '<a id="campaigns"></a>\n## The campaigns',
        "\n".join(_campaigns()),
        '<a id="rooms"></a>\n## Mutants and coverage, room by room',
        "\n".join(_rooms()),
        '<a id="short"></a>\n## What falls short',
        "\n".join(_shortfalls(sections)) or "Nothing.",
        *(_section(section, told) for section, told in sections),
    ]
    return "\n\n".join(parts) + "\n"


def command(module: str) -> str:
    """What runs a campaign: the target of the Makefile that does, or else its module."""
    target = ""
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"(\w+):", line):
            target = found[1]
        elif re.search(rf"-m tests\.campaigns\.{module}\b", line):
            return f"make {target}"
    return f"python -m tests.campaigns.{module}"


def _read(promise: Promise) -> Figures:
    """The figures of a promise, with what its statistical tests detect, and all that falls short."""
    told = _of(promise.figures) if promise.figures else Figures()
    said = [told.said, *map(figures.detects, promise.held)]
    return Figures("; ".join(filter(None, said)), "; ".join(filter(None, (told.short, promise.short))))


def _of(read: Callable[[], Figures]) -> Figures:
    try:
        return read()
    except FileNotFoundError as absent:
        modules = [each.module for each in CAMPAIGNS if each.table == Path(absent.filename).stem]
        return Figures(short=f"{NOT_RUN} ({', '.join(f'`{command(module)}`' for module in modules)})")


def _campaigns() -> Iterator[str]:
    yield "| command | what it does | last figures | took, its parts added |\n|---|---|---|---|"
    for campaign in CAMPAIGNS:
        told = _of(campaign.figures)
        short = f"[**{'short' if told.said else NOT_RUN}**](#short)" if told.short else ""
        last = "; ".join(filter(None, (told.said, short)))
        yield f"| `{command(campaign.module)}` | {campaign.words} | {last} | {figures.took(campaign.table)} |"


def _rooms() -> Iterator[str]:
    yield "| room | mutants killed | lines and branches covered |\n|---|---|---|"
    for name, killed, covered in figures.rooms():
        yield f"| `{name}` | {killed} | {covered} |"


def _shortfalls(sections: Sequence[tuple[Section, Sequence[Figures]]]) -> Iterator[str]:
    """A line for each promise that falls short, and one for all that wait for the same campaign."""
    waiting: dict[str, list[str]] = {}
    for section, read in sections:
        for promise, told in zip(section.promises, read, strict=True):
            if told.short.startswith(NOT_RUN) and not told.said:
                waiting.setdefault(told.short, []).append(f"[{section.title}](#{section.anchor})")
            elif told.short:
                yield _filled(f"[{promise.words}](#{section.anchor}): {told.short}.", "- ", "  ")
    for short, titles in waiting.items():
        places = ", ".join(dict.fromkeys(titles))
        yield _filled(f"{short}: {len(titles)} under {places}.", "- ", "  ")


def _section(section: Section, read: Sequence[Figures]) -> str:
    rows = [
        f"| {promise.words} | {', '.join(f'`{name}`' for name in promise.held)} | {_cell(told)} |"
        for promise, told in zip(section.promises, read, strict=True)
    ]
    title = f'<a id="{section.anchor}"></a>\n## {section.title}'
    return "\n".join([title, "", "| promise | held by | figures |", "|---|---|---|", *rows])


def _cell(told: Figures) -> str:
    return "; ".join(filter(None, (told.said, f"**short:** {told.short}" if told.short else "")))


def _filled(text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    write_atomically(NOTE, note())
    print(f"{NOTE.relative_to(ROOT)} is written")
