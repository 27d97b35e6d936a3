"""Code that every stage uses and that knows nothing of images, params or stages."""
