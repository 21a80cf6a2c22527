"""The SDK: `StateChannelClient` talks to a tower, `ChannelParty` holds the keys and signs.

Secrets stay in the party's keystore; the client carries only what a party hands out.
"""
