"""The table of continual methods; one file each."""
