"""Numbers."""

from .words import shout


def double(number: int) -> str:
    """Say twice a number."""
    return shout(f"twice {number} is {2 * number}")
