"""What a user writes against the public SDK alone: checked by `mypy --strict` and run by the suite.

It needs no tower: what it calls before a connection is refused, and that is what it prints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from domain.application import Application, ApplicationState
from watchtower.client import (
    BitcoindWallet,
    ChallengeResult,
    ChannelInfo,
    ChannelParams,
    ChannelParticipant,
    ChannelResult,
    ChannelState,
    ClosureResult,
    FundingStatus,
    PartyHome,
    ProtocolState,
    ResponseResult,
    StateChannelClient,
    StateChannelConfig,
    StateChannelError,
    StateUpdate,
    SyncStateChannelClient,
    TowerProblem,
    UpdateResult,
    ValidationResult,
    VerificationResult,
    open_client,
)


class Countdown:
    """An application whose state is a number that only falls."""

    app_id: bytes = b"countdown".ljust(32, b"\0")

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """See `Application`."""
        if old is None or int(new.state_data) < int(old.state_data):
            return None
        return "the number must fall"


APPLICATIONS: Sequence[Application] = (Countdown(),)


def client_of(home: PartyHome, wallet: BitcoindWallet, peer: str) -> StateChannelClient:
    """Few lines from a directory to a client."""
    return open_client(home, StateChannelConfig(network="regtest"), peers=[peer], wallet=wallet)


async def workflow(client: StateChannelClient, keys: tuple[str, str], proof: str) -> int:
    """The documentation's listing; every result has its own type."""
    participants = [ChannelParticipant(pubkey=key, initial_balance=50_000_000) for key in keys]
    params = ChannelParams(participants=participants, challenge_period=144, funding_script="taproot")
    created: ChannelResult = await client.create_channel(params)
    name: str = created.channel_id
    last = 0
    for number in range(1, 11):
        update = StateUpdate(
            channel_id=name,
            sequence_number=number,
            balances=[50_000_000 - number * 1_000_000, 50_000_000 + number * 1_000_000],
            state_data=f"payment_{number}",
            signatures=[],
        )
        updated: UpdateResult = await client.update_state(update)
        last = updated.final_sequence
    state: ChannelState = await client.get_channel_state(name)
    info: ChannelInfo = await client.get_channel_info(name)
    funding: FundingStatus = await client.get_funding_status(name)
    verified: VerificationResult = await client.verify_proof(proof)
    judged: ValidationResult = await client.validate_transaction(funding.funding_txid)
    challenged: ChallengeResult = await client.challenge_state(name, 3, proof)
    answered: ResponseResult = await client.respond_to_challenge(name, proof)
    together: ClosureResult = await client.close_channel_cooperative(name, [40_000_000, 60_000_000])
    alone: ClosureResult = await client.close_channel_unilateral(name, last, [])
    print(state.balances, info.status, verified.verdict, judged.kind, challenged.deadline, answered.outcome)
    print(together.txid, alone.settle_height)
    async for event in client.follow(name):
        print(event.text)
    return last


def synchronous(client: SyncStateChannelClient, name: str) -> ProtocolState:
    """The same without asyncio, with the same types."""
    updated: UpdateResult = client.update_state(StateUpdate(name, 1, [1, 2]))
    closed: ClosureResult = client.close_channel_cooperative(name, [1, 2])
    info: ChannelInfo = client.wait_for_status(name, "SETTLED", timeout_ms=1_000)
    print(updated.sequence, closed.kind, info.capacity)
    for event in client.follow(name):
        print(event.text)
    return client.get_state()


def main() -> None:
    """Both clients refuse to work before they are connected."""
    config = StateChannelConfig.from_env({"STATE_CHANNEL_NETWORK": "regtest"})
    try:
        asyncio.run(StateChannelClient(config).get_state())
    except TowerProblem as problem:
        print(problem.slug)
    except StateChannelError as error:
        print(type(error).__name__)
    twin = SyncStateChannelClient(config)
    try:
        twin.get_state()
    except StateChannelError as error:
        print(type(error).__name__)
    finally:
        twin.close()


if __name__ == "__main__":
    main()
