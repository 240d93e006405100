"""The campaign of faults: `make faults`. Not collected by pytest; docs/reliability.md has its table."""
