"""Skeletons of articulated objects and the symmetries of a data set, computed once by `prepare`."""
