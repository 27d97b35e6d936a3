"""Statistical tools of the audits: linear probes, cross-validation, two-sample tests, learning-curve fits."""
