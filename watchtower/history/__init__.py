"""What was known when: points of the log, and everything that follows from the log up to such a point."""
