"""How much work the search for fewer colours may do, counted instead of timed.

A time limit would give different colourings, hence different generated code, on different
machines. One unit is one non-zero visited by a greedy colouring, between 0.1 and 0.25 microseconds.
"""

DEFAULT_EFFORT = 1_000_000
"""Work for refinements; small patterns use less, because the number of rounds is limited too."""


def patience(cost: int) -> int:
    """After how many rounds of `cost` units without progress an iterated search ends."""
    return min(max(24, 100_000 // max(cost, 1)), 200)


class Effort:
    """A stock of work that is used up."""

    def __init__(self, units: int) -> None:
        self.units = units

    def afford(self, cost: int) -> bool:
        """Take `cost` units if they are there."""
        if cost > self.units:
            return False
        self.units -= cost
        return True
