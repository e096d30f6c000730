"""SAM-Med3D-MoE as a tool: finetune experts on a frozen foundation, forget nothing.

What is offered here is loaded when it is first used: importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_pipeline.commands.learning import add_expert, finetune, plan, train_gate, update_expert
    from moe_pipeline.commands.using import evaluate, predict
    from moe_pipeline.errors import PipelineError
    from moe_pipeline.inference.api import Prediction, Predictor, load_model
    from moe_pipeline.inference.session.session import Session

    __version__: str

__all__ = [
    "PipelineError",
    "Prediction",
    "Predictor",
    "Session",
    "__version__",
    "add_expert",
    "evaluate",
    "finetune",
    "load_model",
    "plan",
    "predict",
    "train_gate",
    "update_expert",
]

_LEARNING, _USING = "moe_pipeline.commands.learning", "moe_pipeline.commands.using"
_API = "moe_pipeline.inference.api"
_HOMES = {
    "PipelineError": "moe_pipeline.errors",
    "Prediction": _API,
    "Predictor": _API,
    "Session": "moe_pipeline.inference.session.session",
    "add_expert": _LEARNING,
    "evaluate": _USING,
    "finetune": _LEARNING,
    "load_model": _API,
    "plan": _LEARNING,
    "predict": _USING,
    "train_gate": _LEARNING,
    "update_expert": _LEARNING,
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("moe-pipeline")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
