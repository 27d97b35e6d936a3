"""The same model in cheaper arithmetic: made, judged on validation images, timed; the fastest that holds is shipped."""
