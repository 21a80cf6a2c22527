"""What a restart sends before it has looked at the chain: nothing that would pay a cheater."""

from __future__ import annotations

from domain.channel import Channel
from domain.claiming import build_claim, claim_prepared, claim_script, sign_claim, wanted_claims
from domain.units import Side
from domain.updating import decide_revoke
from tests.support.htlcs import EXPIRY, HTLC, closed, output, outputs
from tests.support.scenes import AUX, NOW, Scene, secrets_of
from tests.unit.test_domain_claiming import all_known
from watchtower.responder.resend import parcels_of


def with_a_claim() -> Scene:
    """A's tower; B's newest commitment is in a block, and a claim of its outputs is in the log."""
    scene = closed(Side.A, Side.B)
    claim = next(
        each
        for each in wanted_claims(scene.channel, outputs(scene), all_known, EXPIRY)
        if each.output == output(scene, HTLC)
    )
    unsigned = build_claim(scene.params, claim, 500, claim_script(scene.channel))
    scene.then(claim_prepared(claim, sign_claim(scene.params, claim, unsigned, secrets_of(Side.A).htlc, AUX), 500, NOW))
    return scene


def late_secret(scene: Scene) -> Channel:
    """B reveals the secret of the state that is on the chain; nobody has judged the close again yet."""
    scene.then(decide_revoke(scene.channel, scene.revocation(1)))
    scene.then(decide_revoke(scene.channel, scene.revocation(2)))
    return scene.channel


def test_claims_of_an_honest_close_are_sent_again() -> None:
    """The process died after the intent."""
    penalties, others = parcels_of(with_a_claim().channel)

    assert [] == penalties
    assert 1 == len(others)


def test_no_claim_pays_for_the_settlement_of_a_revoked_close() -> None:
    """A claim is a child that may bring the cheater's settlement into the mempool."""
    assert ([], []) == parcels_of(late_secret(with_a_claim()))
