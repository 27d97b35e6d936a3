"""The search for better params: what is tried, by whom, and what is kept of it."""
