"""Knowledge bases: plain files with provenance -> frozen objects, pooled parameters, checks."""

from ddx.knowledge.load import load_knowledge, locate, read_knowledge, shipped
from ddx.knowledge.schema import (
    BALANCED,
    EXPERT,
    GENERAL,
    VERBAL,
    Cause,
    Context,
    Finding,
    KnowledgeBase,
    Measurement,
    Parameter,
    Source,
    Study,
    Syndrome,
)

__all__ = [
    "BALANCED",
    "EXPERT",
    "GENERAL",
    "VERBAL",
    "Cause",
    "Context",
    "Finding",
    "KnowledgeBase",
    "Measurement",
    "Parameter",
    "Source",
    "Study",
    "Syndrome",
    "load_knowledge",
    "locate",
    "read_knowledge",
    "shipped",
]
