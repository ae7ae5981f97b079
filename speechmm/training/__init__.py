"""Lightning lives here: module, data module, optimisation, callbacks."""

from speechmm.training.data_module import SpeechDataModule
from speechmm.training.module import JointModule
from speechmm.training.optimization import OptimizationConfig
from speechmm.training.tasks.losses import ObjectivesConfig

__all__ = ["JointModule", "ObjectivesConfig", "OptimizationConfig", "SpeechDataModule"]
