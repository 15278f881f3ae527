"""Exact inference in layered noisy-OR networks: pure functions on arrays, nothing of files or pandas."""

from ddx.inference.mixture import mix
from ddx.inference.network import Network
from ddx.inference.posterior import EvidenceTooLarge, Posterior, posterior

__all__ = ["EvidenceTooLarge", "Network", "Posterior", "mix", "posterior"]
