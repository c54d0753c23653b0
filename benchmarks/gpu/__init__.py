"""The same comparison on one GPU, with models of real size."""
