"""ddx: Bayesian differential diagnosis, exact and traceable. For research and teaching; not a medical device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ddx.batch import ScoreReport, score_file
    from ddx.cases import CaseError
    from ddx.diagnosis import Diagnosis, Model, load
    from ddx.errors import DdxError, KnowledgeError, UsageError

# Public name -> module that defines it; loaded at first use, so that `import ddx` costs next to nothing.
_PUBLIC = {
    "CaseError": "ddx.cases",
    "DdxError": "ddx.errors",
    "Diagnosis": "ddx.diagnosis",
    "KnowledgeError": "ddx.errors",
    "Model": "ddx.diagnosis",
    "ScoreReport": "ddx.batch",
    "UsageError": "ddx.errors",
    "load": "ddx.diagnosis",
    "score_file": "ddx.batch",
}

__all__ = [
    "CaseError",
    "DdxError",
    "Diagnosis",
    "KnowledgeError",
    "Model",
    "ScoreReport",
    "UsageError",
    "__version__",
    "load",
    "score_file",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ddx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
