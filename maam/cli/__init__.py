"""Command line of MAAM; every command is a module of this package."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of ``maam``. Exit codes: 0 done, 1 a comparison failed, 2 bad input, 130 interrupted."""
    # MindSpore reads this at import; its warnings about its own deprecated parts say nothing to the user.
    os.environ.setdefault("GLOG_v", "3")
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "tqdm"):
            raise
        sys.exit(f"error: the command line needs {error.name}: pip install 'maam-ops[train]'")
    app()
