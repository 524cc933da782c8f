"""The experiment, typed: one dataclass for each option of each config group.

Hydra merges the YAML of conf/ into these, so a misspelt key or a wrong type fails while the experiment is
composed; when the composed experiment becomes objects, `__post_init__` checks the bounds that stand beside
each field, and what fields say together. Nothing here imports an engine.
"""

from specdec_bench.config.schema.dataset import (
    DatasetConfig,
    DemoDataset,
    HFDataset,
    JsonlDataset,
    MTBenchDataset,
    PreparedDataset,
    RandomDataset,
    ShareGPTDataset,
    SpecBenchDataset,
    SpeedBenchDataset,
)
from specdec_bench.config.schema.engine import (
    AutoDeployEngine,
    EngineConfig,
    LLMAPIEngine,
    SGLangEngine,
    SyntheticEngine,
    TensorRTLLMEngine,
    TransformersEngine,
    VLLMEngine,
)
from specdec_bench.config.schema.experiment import (
    AUTO,
    NO_BASELINE,
    OPTIONS,
    Expected,
    ExperimentConfig,
    Order,
    SweepConfig,
    draft_length,
    field_names,
)
from specdec_bench.config.schema.load import ClosedLoad, LoadConfig, SamplingConfig
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import (
    CheckpointSpec,
    DFlashSpec,
    DraftingSpec,
    DraftModelSpec,
    Eagle3Spec,
    EagleSpec,
    MedusaSpec,
    MTPSpec,
    NgramSpec,
    NoSpec,
    SpecConfig,
    SuffixSpec,
)

__all__ = [
    "AUTO",
    "NO_BASELINE",
    "OPTIONS",
    "AutoDeployEngine",
    "CheckpointSpec",
    "ClosedLoad",
    "DFlashSpec",
    "DatasetConfig",
    "DemoDataset",
    "DraftCheckpoint",
    "DraftModelSpec",
    "DraftingSpec",
    "Eagle3Spec",
    "EagleSpec",
    "EngineConfig",
    "Expected",
    "ExperimentConfig",
    "HFDataset",
    "JsonlDataset",
    "LLMAPIEngine",
    "LoadConfig",
    "MTBenchDataset",
    "MTPSpec",
    "MedusaSpec",
    "ModelConfig",
    "NgramSpec",
    "NoSpec",
    "Order",
    "PreparedDataset",
    "RandomDataset",
    "SGLangEngine",
    "SamplingConfig",
    "ShareGPTDataset",
    "SpecBenchDataset",
    "SpecConfig",
    "SpeedBenchDataset",
    "SuffixSpec",
    "SweepConfig",
    "SyntheticEngine",
    "TensorRTLLMEngine",
    "TransformersEngine",
    "VLLMEngine",
    "draft_length",
    "field_names",
]
