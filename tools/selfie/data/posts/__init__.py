"""Posts as other programs save them: beside each picture, in tables, in lists; one small module for each program."""
