"""Learning: batches, the loop, losses, checkpoints; used by `augment`, `tune`, `train` and `evaluate`."""
