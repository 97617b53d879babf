"""Where the config groups are. A module of its own, since `--help` needs it before any heavy import."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
# In the wheel conf/ lies inside the package, in a clone beside it.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())
