"""Several runs: repeated, varied, compared, fused; and a demo of the whole way."""

from tfvlad.studies.ablation_results import Ablation, AblationRow
from tfvlad.studies.ablation_study import ablation
from tfvlad.studies.comparison import Comparison, RunDifference, compare
from tfvlad.studies.demonstration import Demo, demo
from tfvlad.studies.fused_run import FusedRun
from tfvlad.studies.fusion import Fusion, fuse
from tfvlad.studies.repetition import Runs, repeat
from tfvlad.studies.variants import VARIANTS, Variant

__all__ = [
    "VARIANTS",
    "Ablation",
    "AblationRow",
    "Comparison",
    "Demo",
    "FusedRun",
    "Fusion",
    "RunDifference",
    "Runs",
    "Variant",
    "ablation",
    "compare",
    "demo",
    "fuse",
    "repeat",
]
