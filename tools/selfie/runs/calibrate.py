"""Calibrate a finished run: its net made as confident as its validation selfies say that it may be.

Many a finetuned net is overconfident. A temperature (Guo et al. 2017), fitted to the validation scores, is put into the
weights of the head, whose log-odds are linear in them: plain Caffe then gives the calibrated probability, and order and
accuracy stay what they were. The trained snapshot stays beside it.
"""

from __future__ import annotations

import numpy as np

from selfie.common import calibration, locks, parallel, paths
from selfie.common.errors import SelfieError
from selfie.data.lmdb_reader import Database
from selfie.net import caffe_net
from selfie.runs import evaluate, heads, run_folder
from selfie.runs.run_folder import Run


def calibrate(run: Run, gpu: int | None = None) -> Run:
    """Calibrate a run, once: weights.caffemodel becomes what scores, and val_scores.csv is made again.

    Killed on the way, the run is as it was, or is to be resumed. SelfieError if the run is not finished, is calibrated
    already, or if its scores do not tell good from bad.
    """
    with locks.folder(run.folder):
        run = run_folder.load(run.folder)
        if not run.finished:
            raise SelfieError(f"{run.folder} is not finished: go on with its training first")
        if "calibration" in run.info:
            raise SelfieError(f"{run.folder} is calibrated already")
        labels = evaluate.validation_scores(run, gpu)["label"].to_numpy()
        log_odds = _log_odds(run, gpu)
        slope = calibration.temperature(log_odds, labels)
        _write_net(run, slope)
        losses = [float(calibration.log_loss(z, labels).mean()) for z in (log_odds, slope * log_odds)]
        record = {"slope": slope, "fitted_on": f"{len(labels)} validation selfies", "log_loss": losses}
        model = {"caffemodel": heads.TRAINED, "caffemodel_sha256": paths.sha256(run.folder / heads.TRAINED)}
        run = run.save(state="trained", calibration={**record, "trained": run.info["caffemodel"]}, **model)
        (run.folder / "val_scores.csv").unlink()
        evaluate.validation_scores(run, gpu)
        return run.save(state="finished")


def _log_odds(run: Run, gpu: int | None) -> np.ndarray:
    """Compute the log-odds of the validation selfies: of a net that is certain, probabilities do not tell them."""
    net = run.net(gpu)
    blob = net.net.bottom_names["prob"][0]
    values = []
    with Database(run.database("val")) as records:
        for batch in parallel.batches(records, evaluate.BATCH):
            [pair] = net.forward(np.stack([picture for _, picture, _ in batch]), (blob,))
            values.append(pair.reshape(len(batch), 2))
    bad, good = np.concatenate(values).T.astype(np.float64)
    return good - bad


def _write_net(run: Run, slope: float) -> None:
    """Write the run's net with the weights of its head multiplied."""
    net = caffe_net.load(run.deploy, run.caffemodel)
    for blob in net.params[run.variant.head]:
        blob.data[...] *= slope
    with paths.atomic_path(run.folder / heads.TRAINED) as temporary:
        net.save(str(temporary))
