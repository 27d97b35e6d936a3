"""A model behind HTTP: admission, micro-batches, the routes, and a model that is exchanged while it answers."""
