#!/usr/bin/env python3
"""Make a finished run as confident as its validation selfies say that it may be.

Fits a temperature to the scores of the validation selfies and puts it into the net's weights: order, accuracy and AUC
stay, the percentages change. weights.caffemodel in the run folder becomes what scores; the trained snapshot stays.
Evaluate again afterwards. Heads on a frozen net (make figures-run) are calibrated by their training.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    cli.add_gpu(parser)
    args = parser.parse_args(argv)

    from selfie.runs import calibrate, run_folder

    run = calibrate.calibrate(run_folder.find(args.run), args.gpu)
    fitted = run.info["calibration"]
    before, after = fitted["log_loss"]
    print(
        f"{run.folder}: log-odds times {fitted['slope']:.3f}; log-loss of {fitted['fitted_on']} {before:.4f} before, "
        f"{after:.4f} now"
    )


if __name__ == "__main__":
    cli.run(main)
