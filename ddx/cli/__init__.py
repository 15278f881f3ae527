"""The command line: ``ddx score``, ``ddx diagnose``, ``ddx kb``."""

from ddx.cli.app import app, main

__all__ = ["app", "main"]
