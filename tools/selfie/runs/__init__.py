"""A training and what it left: run folders, `caffe train`, evaluation, scores of files."""
