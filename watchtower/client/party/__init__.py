"""The channel party: log, keys and signatures of one owner, and the directory that they live in."""
