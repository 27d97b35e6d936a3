"""The data set on disk: manifest, annotations, splits, image shards and the pixel store."""
