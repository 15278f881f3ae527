"""Files of cases in, files of posteriors out."""

from ddx.batch.formats import STREAM
from ddx.batch.lines import Chunk
from ddx.batch.run import CHECKPOINT, Progress, ScoreReport, check_encoding, score_file
from ddx.batch.scoring import Form, Scored, Scorer
from ddx.batch.sources import Source
from ddx.batch.targets import Target, check_target

__all__ = [
    "CHECKPOINT",
    "STREAM",
    "Chunk",
    "Form",
    "Progress",
    "ScoreReport",
    "Scored",
    "Scorer",
    "Source",
    "Target",
    "check_encoding",
    "check_target",
    "score_file",
]
