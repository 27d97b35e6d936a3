"""Search for duplicates and near-duplicates: exact, re-encoded or edited copies of an image."""
