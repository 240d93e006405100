"""The splits of labelled selfies."""

SPLITS = ("train", "val", "test")  # also the order in which databases are built
