"""How much memory a run needs, where it goes, and what would make it fit.

Start at `estimator.py`: a model and a typical row → a recipe's bytes. It stands on `shapes` (config.json of common
models), `skeleton` (a model without weights), `activations` and `ledger` (a step run on it, and what lives when),
`sample` (a row), `estimate` and `sharded` (the lines of the sum). `planner` looks for the cheapest change that fits,
`report` and `page` print it, `advice` is for a run that ran out of memory.
"""
