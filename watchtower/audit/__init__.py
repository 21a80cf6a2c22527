"""Whether the event log can be believed: read-only checks, their findings and reports."""
