"""Inference compared with other runtimes: speed, start-up, memory, decoders, the browser and batch prediction."""
