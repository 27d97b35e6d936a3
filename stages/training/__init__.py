"""Training: batch loading, losses, the training loop, checkpoints, and inference with a trained network in torch."""
