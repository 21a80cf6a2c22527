"""The tower tells people by itself what happens: webhook, ntfy, mail.

Promises: what the log says is told at least once under an id that stays the same, in the order of the log, by each
target on its own; a burst becomes few messages; nobody who watches ever waits for a target. Does not promise that
a message is told once only, nor that a target that stays away for ever gets every detail: those become numbers.
"""
