"""Explanations of a score, computed in a child process of their own: one at a time, a few may wait."""

from __future__ import annotations

import threading

from selfie.runs.run_folder import Run
from selfie.serve.child import Child, ChildDied

PATIENCE = 120.0  # seconds for an explanation
ROOM = 8  # pictures that may wait or be explained
BUSY = "too many pictures are being explained: try again later"
SWITCHED_OFF = "explanations are switched off"
TO_BLAME = "could not be explained"  # of a picture that ends the process twice, or makes it hang


class Explainer:
    """A run's net, face detector and properties in a child process. It does not wait until that is ready."""

    def __init__(self, run: Run, gpu: int | None = None, patience: float = PATIENCE, room: int = ROOM) -> None:
        self._child = Child("serve.explain_child", {"run": str(run.folder.resolve()), "gpu": gpu}, patience)
        self._places = threading.Semaphore(room)
        self._turn = threading.Lock()

    @property
    def restarts(self) -> int:
        """Count how often the process had to be started again."""
        return self._child.restarts

    @property
    def pid(self) -> int | None:
        """Return the process's id; None while it starts."""
        return self._child.pid

    def explain(self, picture: bytes, preview: bool = False) -> dict:
        """Explain the score of an image file's bytes. Returns a dict with

        error       why the picture could not be explained; then nothing else is there
        crop        the best square crop: left, top, width, height as shares of the upright picture, score, percentile,
                    keeps_face, unlike, unknown; None where the picture is too small to be cropped
        faces       number of faces
        measured    property -> value, see selfie.experiments.properties
        influences  list of property, value, more, what, points, strongest first; see selfie.experiments.influences
        explained, selfies    share of the scores' variance that the influences explain, and of how many selfies; None
                    and 0 where the run has no measured properties
        preview     a data: address of a copy without metadata; None unless it was asked for
        """
        if not self._places.acquire(blocking=False):
            return {"error": BUSY}
        try:
            with self._turn:
                return self._explain(picture, preview)
        finally:
            self._places.release()

    def _explain(self, picture: bytes, preview: bool) -> dict:
        for _ in range(2):
            try:
                self._child.wait()
                return self._child.ask({"preview": preview}, [picture])
            except ChildDied:
                continue
        return {"error": TO_BLAME}

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
