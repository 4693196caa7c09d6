"""A number that one thread changes and another waits for, as in AML-IP's tutorial."""

from __future__ import annotations

import threading
from collections.abc import Callable


class IntWaitHandler:
    """A counter to wait on; listeners increase it, the main program waits for a value.

    Args:
        enabled: whether waiting waits at all.
    """

    def __init__(self, enabled: bool = True) -> None:
        self._condition = threading.Condition()
        self._value = 0
        self._enabled = enabled

    def get_value(self) -> int:
        """Return the number."""
        with self._condition:
            return self._value

    def set_value(self, value: int) -> None:
        """Set the number."""
        with self._condition:
            self._value = value
            self._condition.notify_all()

    def increase(self) -> None:
        """Add one."""
        with self._condition:
            self._value += 1
            self._condition.notify_all()

    def decrease(self) -> None:
        """Take one off."""
        with self._condition:
            self._value -= 1
            self._condition.notify_all()

    def wait_equal(self, value: int, timeout: float | None = None) -> bool:
        """Wait until the number is `value`; return False if `timeout` seconds pass first."""
        return self._wait(lambda: self._value == value, timeout)

    def wait_greater_equal(self, value: int, timeout: float | None = None) -> bool:
        """Wait until the number is at least `value`; return False after `timeout` seconds."""
        return self._wait(lambda: self._value >= value, timeout)

    def disable(self) -> None:
        """Let everybody who waits go on, now and later."""
        with self._condition:
            self._enabled = False
            self._condition.notify_all()

    def _wait(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: not self._enabled or predicate(), timeout)
