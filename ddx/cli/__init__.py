"""The command line: ``ddx score``, ``diagnose``, ``evaluate``, ``sensitivity``, ``simulate`` and ``kb``."""

from ddx.cli.app import app, main

__all__ = ["app", "main"]
