"""The canary: a breach that is none, played through the code that protects, at every new tip.

"Nothing happened" looks the same whether nobody cheats or nobody looks. So after each block the scanner has to find an
input that it knows nothing about, an example of a breach has to be recognized and answered, and the node has to judge
the answer. It reads the watch index and the node; it writes nothing and knows no real channel.
"""

from watchtower.canary.canary import Canary

__all__ = ["Canary"]
