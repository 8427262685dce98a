"""Print the lowest versions that pyproject.toml allows, for pip to be held to: one `name==version` a line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def lowest() -> list[str]:
    """Those of the core and of every part that users install; developers' tools stay at their newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    parts = (word for name in optional if name not in ("all", "docs", "dev") for word in optional[name])
    return [re.sub(r">=([^,]*).*", r"==\1", word) for word in (*project["dependencies"], *parts)]


if __name__ == "__main__":
    print("\n".join(lowest()))
