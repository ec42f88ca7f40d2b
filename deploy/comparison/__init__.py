"""Several methods on one study, over seeds and site orders: which, run, table, tests, plots."""
