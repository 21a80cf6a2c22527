"""Signatures of states, verified in processes beside the tower's when several clients upload at once."""
