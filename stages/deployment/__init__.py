"""Deployment of a model file where a server watches it: golden images, checks over HTTP, monitoring, roll-back."""
