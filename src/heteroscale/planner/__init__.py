"""One tick of planning: `plan()` folds the memory forward and says what should change."""

from heteroscale.planner.tick import begin, plan

__all__ = ["begin", "plan"]
