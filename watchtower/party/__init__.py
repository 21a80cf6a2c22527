"""A party as a program: its settings, the calls that it answers, and the socket through which commands reach it."""
