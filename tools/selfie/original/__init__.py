"""The post as data: its published figures, cut into tiles, and a run compared with them."""
