"""A model split over processes: `mirror` repeats what rank 0 does, `ranks` are the processes."""
