"""Undo and redo: two lists of states."""

from __future__ import annotations

from explorer_app.state import AppState

LIMIT = 500


class History:
    """The current state and how it came about.

    Changes are shown at once and become one undo step when `commit` is called, that is when no control is
    held any
    more: a whole slider drag is one step.
    """

    def __init__(self, state: AppState) -> None:
        self.state = state
        self._committed = state
        self._past: list[AppState] = []
        self._future: list[AppState] = []

    @property
    def committed(self) -> AppState:
        """The state as it was before the control was taken hold of that is held now."""
        return self._committed

    def commit(self) -> bool:
        """Make what changed since the last commit one undo step; True when something had changed."""
        if self.state == self._committed:
            return False
        self._past = [*self._past[-LIMIT + 1 :], self._committed]
        self._future = []
        self._committed = self.state
        return True

    def replace(self, state: AppState) -> None:
        """Put another state in place without an undo step (a newer snapshot of the same run, a restored
        session)."""
        self.commit()
        self.state = self._committed = state

    def undo(self) -> bool:
        """Go one step back; False at the beginning."""
        self.commit()
        if not self._past:
            return False
        self._future.append(self._committed)
        self.state = self._committed = self._past.pop()
        return True

    def redo(self) -> bool:
        """Go one step forward again; False at the end."""
        self.commit()
        if not self._future:
            return False
        self._past.append(self._committed)
        self.state = self._committed = self._future.pop()
        return True

    @property
    def can_undo(self) -> bool:
        """True when there is a step to go back to."""
        return bool(self._past) or self.state != self._committed

    @property
    def can_redo(self) -> bool:
        """True when there is a step to go forward to."""
        return bool(self._future)

    @property
    def steps(self) -> int:
        """Number of undo steps."""
        return len(self._past)
