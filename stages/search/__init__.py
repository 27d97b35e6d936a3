"""Search for better params of training, used by `tune`."""
