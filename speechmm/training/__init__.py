"""Lightning lives here: module, data module, optimisation, callbacks."""

from speechmm.training.data_module import SpeechDataModule
from speechmm.training.module import JointModule, ObjectivesConfig
from speechmm.training.optimization import OptimizationConfig

__all__ = ["JointModule", "ObjectivesConfig", "OptimizationConfig", "SpeechDataModule"]
