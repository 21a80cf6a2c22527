"""Use cases of the owner's channels: register, accept a state, revoke, ask.

Synchronous and without tasks of their own. They decide with the aggregate, store, and announce that something
was stored; the chain task and the responder act from the log.
"""
