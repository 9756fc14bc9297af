"""One fuzz target in a process of its own, guided by coverage: what `fuzz` starts.

    python -m tests.campaigns.fuzz_child TARGET FOLDER EXECUTIONS

Findings are written down and the fuzzing goes on; what ends the process (a crash of the interpreter, more
than a minute in one call of C, memory) is left in FOLDER by libFuzzer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.campaigns.fuzz_guard import finding, keep, limit_memory, warnings_are_findings

MOST_BYTES = 4096
RESIDENT = 4096  # MiB


def main(name: str, folder: Path, executions: int) -> None:
    """Fuzz one target."""
    import atheris

    with atheris.instrument_imports(include=["rst_theory"]):
        from tests.campaigns.fuzz_targets import TARGETS

        target = TARGETS[name]
        seeds = target.seeds()
        for seed in seeds:  # imports what the target imports, so that it is instrumented
            finding(target.check, seed, seconds=60)
    starts, corpus, findings = (folder / part for part in ("seeds", "corpus", "findings"))
    for part in (starts, corpus, findings):
        part.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate([*seeds, *(path.read_bytes() for path in findings.glob("*.bin"))]):
        (starts / str(i)).write_bytes(seed[:MOST_BYTES])
    for path in findings.iterdir():
        path.unlink()
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words), encoding="ascii")
    warnings_are_findings()
    limit_memory()

    def one(data: bytes) -> None:
        error = finding(target.check, data, target.seconds)
        if error is not None:
            keep(findings, name, target.check, data, error)

    options = {
        "runs": executions,
        "max_len": MOST_BYTES,
        "timeout": 60,
        "rss_limit_mb": RESIDENT,
        "print_final_stats": 1,
        "artifact_prefix": f"{findings}/",
        **({"dict": words} if target.words else {}),  # it takes no empty file
    }
    places = [str(corpus), str(starts)]
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), *places], one)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    """A token in libFuzzer's own notation."""
    plain = {'"', "\\"}
    text = word.encode("latin-1")
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in plain else f"\\x{b:02x}" for b in text)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
