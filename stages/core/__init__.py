"""Code that every stage uses: errors, findings, provenance, CPU and memory limits."""
