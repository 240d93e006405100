"""Tools that know nothing of selfies: errors, commands, files, processes, statistics, plots, pages."""
