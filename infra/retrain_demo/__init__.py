"""Demonstration of scheduled retraining on the services of one machine: `make retrain-demo`."""
