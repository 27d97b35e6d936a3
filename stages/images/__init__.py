"""Images on disk and in memory: reading files, sources, the manifest, splits, shards, the pixel store."""
