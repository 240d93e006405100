"""The selfie experiment of 2015 as a library: packages in the order in which the data flows.

common, data (photos and a table of posts to labels and LMDB), net (nets and Caffe), faces (the face filter), runs (train,
evaluate, score), experiments (what the post shows), original (the post as data), bench (speed).

Each package imports only packages before it: common <- data <- net <- {faces, runs} <- experiments <- original <- bench.
faces and runs do not know each other. tests/test_layers.py holds this. Commands stand in tools/ and pycaffe_scripts/.
"""
