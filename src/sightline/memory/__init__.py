"""How much memory a run needs, where it goes, and what would make it fit.

`shapes` knows the config.json of common models, `skeleton` builds a model without weights, `ledger` and `activations`
run Sightline's own forward and backward on it and add up what lives when, `nominal` is the arithmetic done by hand,
`estimate` puts a recipe's bytes together, `planner` looks for the cheapest change that fits, `table` prints, `measure`
says what a real step took.
"""
