"""Training compared with other libraries, and the speed of a training step."""
