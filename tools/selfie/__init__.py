"""The selfie experiment of 2015 as a library: labels, databases, nets, training, scoring. Commands stand in tools/."""
