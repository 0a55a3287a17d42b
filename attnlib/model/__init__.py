"""What is measured: a stack of self-attention layers from its configuration, and the data that it is fed.

Modules and tensors only; what they cost is not counted here, and nothing is timed.
"""

from attnlib.model.classifier import SequenceClassifier, build_model
from attnlib.model.config import StackConfig

__all__ = ["SequenceClassifier", "StackConfig", "build_model"]
