"""Questions to the node before work starts: the right chain, and the notifications that are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from domain.chain import GENESIS_DISPLAY, chain_hash, display
from watchtower.node.rpc import ZmqNotification
from watchtower.ports import ChainInfo, Node, WatchtowerError, WrongChain

REQUIRED_TOPICS = ("sequence", "rawtx")


class ZmqTopicMissing(WatchtowerError):
    """The node does not publish a topic that the service needs."""

    slug = "zmq-topic-missing"


def require_network(node: Node, network: str) -> ChainInfo:
    """Facts about the node's chain; raises `WrongChain` unless name and genesis block are those of `network`.

    The genesis block is compared too, because the name alone does not tell one private chain from another.
    """
    info = node.chain_info()
    if info.network != network:
        raise WrongChain(
            f"the node follows {info.network}, but this tower is set to {network}; "
            "change `network`, or point rpc_url to another node"
        )
    if network in GENESIS_DISPLAY and (genesis := node.hash_at(0)) != chain_hash(network):
        shown = "none" if genesis is None else display(genesis)
        raise WrongChain(f"the node's block 0 is {shown}; on {network} it is {GENESIS_DISPLAY[network]}")
    return info


def require_topics(published: Iterable[ZmqNotification], addresses: Mapping[str, str]) -> None:
    """Raises `ZmqTopicMissing` with the lines for bitcoin.conf unless the required topics are published.

    `addresses` are those where the tower listens, by topic. One that leads to a port where the node publishes other
    topics only is an error too: the connection would stand and stay silent.
    """
    published = tuple(published)
    have = {each.type for each in published}
    missing = [topic for topic in REQUIRED_TOPICS if f"pub{topic}" not in have]
    if missing:
        lines = "\n".join(f"  zmqpub{topic}={addresses[topic]}" for topic in missing)
        text = f"the node does not publish {' and '.join(missing)}; add to bitcoin.conf and restart bitcoind:\n{lines}"
        raise ZmqTopicMissing(text)
    if wrong := [line for topic in addresses if (line := _misplaced(published, topic, addresses[topic]))]:
        raise ZmqTopicMissing("; ".join(wrong))


def _misplaced(published: Sequence[ZmqNotification], topic: str, address: str) -> str:
    """What is wrong with the address of a topic, empty if nothing is known to be wrong.

    Ports are compared, not hosts: the node names the address it is bound to, and a port may be mapped to another one.
    """
    there = {each.type.removeprefix("pub") for each in published if _port(each.address) == _port(address)}
    if not there or topic in there:
        return ""
    right = [each.address for each in published if each.type == f"pub{topic}"]
    where = f"; {topic} is at {right[0]}" if right else f", and {topic} nowhere"
    return f"node.zmq_{topic} is {address}, where the node publishes {' and '.join(sorted(there))}{where}"


def _port(address: str) -> str:
    return address.rpartition(":")[2]
