"""From photos and a table of posts to labels and LMDB databases."""
