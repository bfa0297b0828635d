"""The settings of `train_textual_inversion.py`, in groups of flags, with the defaults for real base models.

Defaults are those of the ppdiffusers documentation, or those of PaddleMIX's example where it gives none. They make
sense for real models only. With the demo's base model, `demo/defaults.yaml` replaces some of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textual_inversion.settings.concept import Concept
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train_data import BaseModelSettings, ConceptSettings, ImageSettings, PromptSettings
from textual_inversion.settings.train_method import (
    ObjectiveSettings,
    OptimizerSettings,
    RegularizerSettings,
    TrainingSettings,
)
from textual_inversion.settings.train_run import (
    HubSettings,
    MachineSettings,
    SavingSettings,
    TrainConfigFile,
    ValidationSettings,
)
from textual_inversion.settings.validation_prompt import ValidationPrompt


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run.

    Attributes:
        concepts: the settings of each concept, in the order of `--placeholder_token`.
        validation_prompts: those of `--validation_prompt`, then those of `--validation_prompts_file`.
        given: names of the flags that the user gave, on the command line or in a configuration file.
        demo: whether the base model is the demo's.
        demo_defaults: name -> value of the flags that `demo/defaults.yaml` has set.
        notes: what the run is to say of its configuration file, in lines.
    """

    file: TrainConfigFile = TrainConfigFile()
    base_model: BaseModelSettings = BaseModelSettings()
    concept: ConceptSettings = ConceptSettings()
    prompts: PromptSettings = PromptSettings()
    images: ImageSettings = ImageSettings()
    training: TrainingSettings = TrainingSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    regularizers: RegularizerSettings = RegularizerSettings()
    validation: ValidationSettings = ValidationSettings()
    saving: SavingSettings = SavingSettings()
    machine: MachineSettings = MachineSettings()
    hub: HubSettings = HubSettings()
    concepts: tuple[Concept, ...] = ()
    validation_prompts: tuple[ValidationPrompt, ...] = ()
    given: frozenset[str] = frozenset()
    demo: bool = False
    demo_defaults: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# The flags whose values `infer.py` and `score.py` take from the run.json beside an embedding.
REUSED = {name: one for name, one in all_flags(TrainConfig).items() if one.is_reused}
