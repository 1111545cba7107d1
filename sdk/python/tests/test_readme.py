"""The snippets of the README do what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_snippets() -> None:
    text = README.read_text()
    for snippet in re.findall(r"```json\n(.*?)```", text, re.S):
        json.loads(snippet)
    snippets = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(snippets) > 5
    names: dict[str, object] = {"__name__": "readme"}
    for snippet in snippets:
        exec(compile(snippet, str(README), "exec", dont_inherit=True), names)
