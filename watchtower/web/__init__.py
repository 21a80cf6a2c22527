"""The status page: what an operator sees at one glance, drawn by the server, read-only.

Promises: it answers from read models only and never folds the log; it works without JavaScript; nothing that others
chose can become markup; it changes nothing about the tower.
"""
