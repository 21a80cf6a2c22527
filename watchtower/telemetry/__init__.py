"""What can be seen from outside: logs, metrics and readiness. Nothing here decides anything."""
