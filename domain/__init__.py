"""Pure rules of the watchtower: values in, values out; no I/O, clock, randomness or logging."""
