"""Crash tests: every step that changes something durable fails in every way, and nothing is lost."""
