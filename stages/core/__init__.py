"""Code that stages share: errors, findings, provenance, digests of code, array shapes, CPU and memory limits."""
