"""The examples of the README run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def examples(root):
    return re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("index", range(7))
def test_example_runs_without_a_warning(index, request):
    root = request.config.rootpath
    code = examples(root)[index]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_seven_examples(request):
    assert len(examples(request.config.rootpath)) == 7
