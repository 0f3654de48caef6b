"""The worker processes: started by their public command, replaced when they die, ended in order."""

import signal
from pathlib import Path
from typing import Final

from groupage_emulator.demo.checker import Rule, Violation
from groupage_emulator.demo.children import Child, Crew, wait_for, wait_until
from groupage_emulator.demo.view import View

READY_S: Final = 30.0
STOP_S: Final = 20.0
DEATHS_MAX: Final = 20
"""More than this is no accident."""

READY_WORDS: Final = "app.ready"
"""The worker's log says so when it takes work."""


class Fleet:
    """A number of workers that stays the same.

    Args:
        crew: Starts the processes.
        settings: The workers' settings file.
        view: Is told what happens.

    Attributes:
        killed: Workers that a signal ended.
        violations: Workers that ended by themselves, or not as they should.
    """

    def __init__(self, crew: Crew, settings: Path, view: View) -> None:
        self._crew, self._settings, self._view = crew, settings, view
        self._workers: list[Child] = []
        self._started = 0
        self.killed = 0
        self.violations: list[Violation] = []

    async def start(self, count: int) -> None:
        """Start so many and wait until they take work.

        Raises:
            ChildError: If one does not come up.
        """
        self._workers = [self._new() for _ in range(count)]
        for worker in self._workers:
            await _wait_ready(worker)

    def _new(self) -> Child:
        self._started += 1
        command = ["groupage_worker", "run", "--config", str(self._settings)]
        return self._crew.start(f"worker-{self._started}", command)

    def replace_dead(self) -> None:
        """Start a new worker for each that has ended, whoever ended it.

        Raises:
            ChildError: If a worker dies before it took work, or they die again and again.
        """
        for place, worker in enumerate(self._workers):
            status = worker.exit_status()
            if status is None:
                continue
            if status >= 0:
                self.violations.append(
                    Violation(Rule.UNCLEAN_EXIT, f"{worker.name} ended with status {status}")
                )
            self.killed += status < 0
            if not worker.says(READY_WORDS) or self._started > DEATHS_MAX:
                raise worker.error(f"ended with status {status}")
            why = (
                f"was killed ({signal.Signals(-status).name})"
                if status < 0
                else f"ended with status {status}"
            )
            self._workers[place] = self._new()
            self._view.note(f"{worker.name} {why}; started {self._workers[place].name}")

    def kill_one(self) -> None:
        """End one worker as the kernel would: at once, in the middle of whatever it does."""
        self._view.note(f"killing {self._workers[0].name} with SIGKILL")
        self._workers[0].signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask all to end; whoever does not do so cleanly is a violation."""
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        await wait_until(lambda: all(w.exit_status() is not None for w in self._workers), STOP_S)
        for worker in self._workers:
            if (status := worker.exit_status()) != 0:
                ended = f"did not end in {STOP_S:g} s" if status is None else f"ended with status {status}"
                self.violations.append(Violation(Rule.UNCLEAN_EXIT, f"{worker.name} {ended} after SIGTERM"))


async def _wait_ready(worker: Child) -> None:
    await wait_for(worker, lambda: worker.says(READY_WORDS), READY_S, "did not get ready")
