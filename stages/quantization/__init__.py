"""Create variants of a model in lower precision, measure score and latency, and select the one to ship."""
