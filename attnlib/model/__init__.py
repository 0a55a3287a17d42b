"""Models and data that are measured: a stack of self-attention layers by its configuration, and its input.

Modules and tensors only; what they cost is not counted here, and nothing is timed.
"""

from attnlib.model.classifier import SequenceClassifier, build_model
from attnlib.model.config import StackConfig

__all__ = ["SequenceClassifier", "StackConfig", "build_model"]
