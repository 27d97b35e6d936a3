"""Images: archives, decoding, geometry, statistics and the sandbox for untrusted files."""
