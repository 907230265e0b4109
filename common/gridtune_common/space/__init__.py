"""The search space: which hyperparameters there are, what values they take, and when they exist."""

from gridtune_common.space.conditions import Condition
from gridtune_common.space.normal import Normal
from gridtune_common.space.parameters import Categorical, Float, Int, Ordinal, Parameter
from gridtune_common.space.reading import Invalid
from gridtune_common.space.search_space import SearchSpace

__all__ = ["Categorical", "Condition", "Float", "Int", "Invalid", "Normal", "Ordinal", "Parameter", "SearchSpace"]
