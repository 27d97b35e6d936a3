"""Create variants of a model in lower precision, measure score and latency, and select the fastest acceptable one."""
