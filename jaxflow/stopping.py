"""Ctrl-C and SIGTERM at a moment that suits: between two steps, not inside one."""

import signal
import threading
import types


class Stop:
    """Remembers a wish to stop; use it in a `with` block.

    Inside the block SIGTERM and the first Ctrl-C only set `signal`; the loop looks at
    it between two steps, saves, and calls `leave`. A second Ctrl-C stops at once. The
    handlers of before come back at the end, which calls `leave` if nobody did. Outside
    the main thread, where Python allows no handlers, nothing changes.

    Attributes:
        signal: The signal that came, or None.
    """

    def __init__(self):
        self.signal: int | None = None
        self._left = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if kind is None and not self._left:
            self.leave()

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            self._left = True
            raise KeyboardInterrupt
        self.signal = number

    def leave(self) -> None:
        """Ends as the signal would have, if one came.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            SystemExit: After SIGTERM, with the exit code 143 that a shell expects.
        """
        self._left = True
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)
