"""Augmentation speed compared with other libraries, and the effect of augmentation policies on scores."""
