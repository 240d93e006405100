"""Speed and memory beside peers on the same work."""
