"""The name under which both sides of an opening know it."""

from __future__ import annotations

from domain.contract.params import KeyBlock, ParamsPolicy
from watchtower.client.messages import AcceptChannel, OpenChannel
from watchtower.client.opening import agreed_params


def proposal_id_of(request: OpenChannel, accept: AcceptChannel, policy: ParamsPolicy) -> bytes:
    """The proposal id of the constants that both messages make together; `InvalidParams` as `agreed_params`."""
    return agreed_params(request, KeyBlock.decode(accept.key_block), policy).proposal_id
