"""New towers whose keystore opens in a moment: what scrypt costs is the subject of the keystore's own tests.

As `watchtower.new_tower.create` otherwise. A tower as an operator makes it takes a fifth of a second of a processor
three times: when its keystore is made, when that is opened, and at every start.
"""

from __future__ import annotations

from functools import partial

from watchtower.new_tower import create as create_in_full

COST = 2**4

create = partial(create_in_full, cost=COST)
