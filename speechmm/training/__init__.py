"""Trains models with Lightning: modules, data modules, tasks, augmentation, optimisation, callbacks."""

from speechmm.training.augmentation import AugmentationConfig
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.module import JointModule
from speechmm.training.optimization import OptimizationConfig
from speechmm.training.renamed_settings import ObjectivesConfig
from speechmm.training.tasks import TasksConfig

__all__ = [
    "AugmentationConfig",
    "JointModule",
    "ObjectivesConfig",
    "OptimizationConfig",
    "SpeechDataModule",
    "TasksConfig",
]
