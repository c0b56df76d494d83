"""Who watches a run: the contract of observers, and those that ship with jetbed."""

from emulator.observers.base import Progress, RoundClosed, RunBegan, RunEnded, RunObserver

__all__ = ["Progress", "RoundClosed", "RunBegan", "RunEnded", "RunObserver"]
