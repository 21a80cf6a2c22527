"""Foreign bytes at every door: random ones, and valid ones that were changed."""
