"""The selfie experiment of 2015 as a library: packages in the order in which the data flows.

common <- data <- net <- {faces, runs} <- experiments <- original <- bench: each imports only those before it, and faces
and runs do not know each other (tests/test_layers.py holds that). Commands stand in tools/ and pycaffe_scripts/.
"""
