"""What ends a command, a signal mostly, taken where that leaves nothing half done."""

from __future__ import annotations

import signal


class Interrupts:
    """SIGINT and SIGTERM as `KeyboardInterrupt`, whose argument is the signal's name.

    It is raised at once, but between `hold` and `let` only by `check`, or by a second signal.

    Attributes:
        told: how the command ends, in words: `interrupted`, and why, where that is known.
    """

    def __init__(self) -> None:
        self.told = "interrupted"
        self._holding = False
        self._came = ""

    def install(self) -> None:
        """Take the signals of this process from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and `&` want it
                signal.signal(number, self._take)

    def _take(self, number: int, frame: object) -> None:
        first = not self._came
        self._came = signal.Signals(number).name
        if not (self._holding and first):
            raise KeyboardInterrupt(self._came)

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal has come."""
        if self._came:
            raise KeyboardInterrupt(self._came)

    def stop(self, why: str) -> None:
        """End the command as SIGINT does, by the next `check`; from any thread.

        Args:
            why: in words.
        """
        if not self._came:
            self.told = f"interrupted: {why}"
            self._came = "stop"

    def hold(self) -> None:
        """Let signals wait for a `check` from now on."""
        self._holding = True

    def let(self) -> None:
        """Let them come at once from now on."""
        self._holding = False
