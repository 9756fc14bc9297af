"""The note on the claims, written from their verdicts: `paper_notes/claims.md`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

__all__ = ["note"]

Row = dict[str, Any]

HEAD = """\
# The claims of the abstract, and eight questions

Source of C1 to C5: Zhao, Zhang and Hu, "Randomized Sharpness-Aware Training for Boosting Computational
Efficiency in Deep Learning", arXiv 2203.09962 v2 (2023). Only its abstract and the authors' public research
code were at hand, so every theorem here is ours. Q1 to Q8 are the questions that this project put to trial
to judge them.

`make experiments` writes this note from the tables in `experiments/results/`; `make report` runs smaller
forms of the same experiments and compares. Rules were fixed before the runs, but where they say otherwise,
and stand in the experiments' modules. How the settings were chosen, what else was seen, and what follows
for the choice of a schedule: `evidence.md`.

*verified*: proved or exactly computed here, and nothing measured contradicts it. *supported*: measured here
in the setting named, open elsewhere. *refuted*: measured to be false in the setting named. *open*: no
evidence that decides. Intervals are 99 % unless they say otherwise.
"""


def note(rows: Sequence[Row]) -> str:
    """The note in Markdown, from the rows of claims.json."""
    lines = ["| | claim or question | verdict | in a number |", "|---|---|---|---|"]
    lines += [
        f"| [{row['id']}](#{row['id'].lower()}) | {_title(row)} | {row['verdict']} | {row['number'] or ''} |"
        for row in rows
    ]
    return "\n".join([HEAD, *lines, "", *map(_section, rows)])


def _section(row: Row) -> str:
    parts = [
        f"*{row['statement']}*",
        f"**{row['verdict'].capitalize()}.** {row['evidence']}",
        f"Rule: {row['rule']}",
        f"What would change our mind: {row['change']}",
        f"Command: `{row['command']}`; figure: `figures/{row['figure']}.png`.",
    ]
    body = "\n\n".join(
        textwrap.fill(part, 118, break_long_words=False, break_on_hyphens=False) for part in parts
    )
    return f'<a id="{row["id"].lower()}"></a>\n## {row["id"]}. {_title(row)}\n\n{body}\n'


def _title(row: Row) -> str:
    title: str = row["title"]
    return title
