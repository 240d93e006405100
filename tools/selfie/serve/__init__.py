"""A run behind a door: a scorer in a child process, batches, a page, the Open Inference Protocol, metrics."""
