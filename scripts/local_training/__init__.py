"""Parts of the benchmark of local training."""
