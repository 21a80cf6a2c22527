"""The composition root: the only place that builds adapters and hands them to each other.

One file per wing, in the order in which they are opened: `storage` (instance lock, log, read models, keystore),
`listening` (sockets), `core` (node, tower, pass thread), `beside` (threads beside the pass), `api`, `admin`. `parts`
puts them together. The node is only prepared; it may be away. Whatever was opened is closed again if a later step
fails.
"""
