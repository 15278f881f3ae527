"""Exact inference in layered noisy-OR networks: pure functions on arrays, nothing of files or pandas."""

from ddx.inference.mixture import mix
from ddx.inference.network import Network
from ddx.inference.posterior import EvidenceTooLarge, PlanOfCase, Posterior, explain_plan, posterior

__all__ = ["EvidenceTooLarge", "Network", "PlanOfCase", "Posterior", "explain_plan", "mix", "posterior"]
