"""Ignite handlers and batch preparation where MONAI has none that fits."""

from __future__ import annotations

from .best_model import BestModelKeeper
from .checkpoints import ResumableCheckpoint, latest_checkpoint, save_weights
from .feature_collection import FeatureCollector
from .history import EpochHistory, read_history
from .pictures import TensorBoardPictures
from .planting import PlantedAnomalyd
from .precision import AutocastInferer
from .prepare_batch import PrepareBatchReconstruction
from .progress import TrainingProgress
from .randomness import SeededEpochs, preserved_random_state
from .results import CaseResults
from .separation import PixelSeparation, PlantedSeparation
from .settings import write_settings
from .weights import RunWeights, find_weights

__all__ = [
    "AutocastInferer",
    "BestModelKeeper",
    "CaseResults",
    "EpochHistory",
    "FeatureCollector",
    "PixelSeparation",
    "PlantedAnomalyd",
    "PlantedSeparation",
    "PrepareBatchReconstruction",
    "ResumableCheckpoint",
    "RunWeights",
    "SeededEpochs",
    "TensorBoardPictures",
    "TrainingProgress",
    "find_weights",
    "latest_checkpoint",
    "preserved_random_state",
    "read_history",
    "save_weights",
    "write_settings",
]
