"""A real bitcoind for the demo and the tests: where its binary comes from and a private regtest node.

Nothing here runs in production; the service never imports this package.
"""
