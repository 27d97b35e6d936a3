"""Search for images that are exact, perceptual or edited copies of each other."""
