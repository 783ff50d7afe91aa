from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)


def test_every_example_says_what_it_prints() -> None:
    assert len(EXAMPLES) == README.count("```python") == 2


@pytest.mark.parametrize(("code", "expected"), EXAMPLES, ids=["theory", "samples"])
def test_the_example_runs_and_prints_what_it_says(code: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.split() == expected.split()
