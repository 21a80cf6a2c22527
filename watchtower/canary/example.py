"""Two channels that exist nowhere, one of each profile, and a breach of each: published test vectors of the contract.

Their secrets are public and guard nothing; both have the same keys. What the canary's answer has to be is written down
here too, so that it is compared with bytes that this program did not compute. (tests/contract_vectors/vectors: keys,
commitments, penalties, sct_p_v0)
"""

from __future__ import annotations

from functools import cache

import msgspec

from domain.channel import Channel
from domain.channel_fold import evolve
from domain.contract.params import SEGWIT, TAPROOT, ChannelParams
from domain.contract.revocation import NO_SECRETS, index_of, insert_secret
from domain.events import ChannelRegistered, Mode, envelopes
from domain.units import Side

_PARAMS = bytes.fromhex(
    "010006226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f1111111111111111111111111111"
    "1111111111111111111111111111111111110000000040420f00000000009000d0070000f00000000000000010270000"
    "0000000000000000034277078e4673b60b897e1176976ce4454fdea30b834ae04359360ac4aaf06ceb0251012b0b38a0"
    "131e952594976dddea6d97ec1116dc75c65389e820df5c62bcfd521e422302d54bbc94cb1e968329937d0efc5b051d94"
    "072cae6423f7cd807daa03e3dda11f2b3a57114384837f1a9f92c5f5d6852a95994eae8f873c310585205881d48a2700"
    "d40c301e5baa253a1317d31e71e4a12bb673e3ee6fea05fba6abaa2251204e67df9f814be72f6476013ead881e7157ec"
    "271e0179e488e901178f93004d74000000000000000002e0e468dbfe20f447d1be117abdeee9939162adc687534f95c7"
    "d390f3857ab9d402cb88dc39dd4daca08548424eebc748cbe3a2e55c2789df6e0c83872b40784f2b6a48f43f12796521"
    "1b4458ea31b13c54dd4d19ced8c37b950728aa78fb55e65703602f2156eadbe07a875e951a42dfe3420bcdfec893c902"
    "dc6beefacdd89e6043117fdbf9d0144474adbea098516a51e8e5b0ab82be311d924a9a5ecf0e9d78de225120d4beadb6"
    "95ca965838b181ed0e516dbac473f1b0b121efb3df8f05e10438dd600000000000000000"
)

_SECRETS = (
    bytes.fromhex("fd0dea74c09814cde4923c9f6de34b1c150f9619d6f7e4a8213b3aa48e962d99"),
    bytes.fromhex("a9870c95f8613278539c42e34afd3685b31dde819609b7c7206ffdf0ef25b2a3"),
    bytes.fromhex("62d8bf273dd6f45cd4b17dd899a71be1f093514c199fae9591f2579d6bc421af"),
    bytes.fromhex("74d2c36a0cc2525f219253b85996d0a0edd3be4bd2618fa3b5c406a3841520cc"),
    bytes.fromhex("f2a10a998a155894b4aca906143053954f6a456d04fabfe214bdefb89edae127"),
    bytes.fromhex("c62e362db1ef9f8108357c52e57c0222eebeba031a1acdfb610ab9120c44d0d3"),
)
"""Of the cheater, states 0 to 5: all revoked."""

_NEXT_POINTS = (
    bytes.fromhex("02bcfb7a7eb5751d17e5c6dd675b35c976187f294f1941149c9e857ef78028df1d"),
    bytes.fromhex("0302417cf47534dc1959f9c76460ffe33d7624e3080bbc07f3b89951250aa108d5"),
)
_SWEEP = bytes.fromhex("5120c0fad92078f27112896a739d34c3cac1187da17d1bceaac1583203c131867528")

REVOCATION_SECRET = bytes.fromhex("83cca81694d2daffc2916921e19efa2b04e1281411fffb86d402535cf2a883a0")
"""The victim's, as the keystore holds it for a real channel."""

BREACH_SEQUENCE = 5
FEE = 1000
"""Satoshi."""


class Example(msgspec.Struct, frozen=True):
    """A channel with its breach and the answer to it; txids in internal byte order."""

    name: str
    profile: int
    commitment: bytes
    """The revoked commitment of state 5, complete with its witness."""

    penalty_txid: bytes
    penalty_sighash: bytes
    contest_key: bytes
    """What the penalty's signature verifies under: the output key (BIP-340) or R (ECDSA)."""


TAPROOT_EXAMPLE = Example(
    name="taproot",
    profile=TAPROOT,
    commitment=bytes.fromhex(
        "0300000000010111111111111111111111111111111111111111111111111111111111111111110000000000b5613c80"
        "0204400f00000000002251202d11954c1ad4682d613c950c598c319f21f3c7cfaf1259efd7f3b9ac8719e02af0000000"
        "000000000451024e730440df240f9eb5d7c9408592f35f5d8e1c96e8a5dfbd79ba68ddbc8e489ebe1cda139c77bf2b92"
        "9852de93563c6fd204e2ec1d5d0824b354a65e1d7f4e80db7bd4fd409a2e4f548cc139d856e611e3dedbed69c7127dd1"
        "a6f721fd9dad00ace6ab1855d4acfbda08219be136a3866609f5792bf76d9757df467bbe71d00df893664d1b44204277"
        "078e4673b60b897e1176976ce4454fdea30b834ae04359360ac4aaf06cebad20e0e468dbfe20f447d1be117abdeee993"
        "9162adc687534f95c7d390f3857ab9d4ac21c199a1de0c474ad593f74eb94bb1292316bb2fde08f52e72a8f3ee49008f"
        "9a012119a06220"
    ),
    penalty_txid=bytes.fromhex("83686699dfcb75e4ccbe789bc3c806608cbf0f32a7cd7cb2addac9b39cfc4107"),
    penalty_sighash=bytes.fromhex("0203b3dd237a8ba238027edfd72c25f6e532d87d656f1093490eb807150f72e8"),
    contest_key=bytes.fromhex("2d11954c1ad4682d613c950c598c319f21f3c7cfaf1259efd7f3b9ac8719e02a"),
)

SEGWIT_EXAMPLE = Example(
    name="segwit v0",
    profile=SEGWIT,
    commitment=bytes.fromhex(
        "0300000000010111111111111111111111111111111111111111111111111111111111111111110000000000b5613c80"
        "020a400f00000000002200205886fc13d2b43c623104ccc18d95d26fdae9cf83afdd521118ab343cecbdc5eff0000000"
        "000000000451024e7304004730440220085a0496ef8e72f283633043300b1313297990636e1dff6507bce07b893696af"
        "022053788a113be3257042a8d7d9e18b689666a8f359443e83a134dee2b1f97bc5bd01473044022077816ef3bf22590e"
        "92e77484c4ff28e4864e44366f9fd3d129c5a3a3283a229e02204b8d360d320cd020f6ae27ad072f73fe63fa932e72f6"
        "1e747660bd4987eae6890147522102e0e468dbfe20f447d1be117abdeee9939162adc687534f95c7d390f3857ab9d421"
        "034277078e4673b60b897e1176976ce4454fdea30b834ae04359360ac4aaf06ceb52ae19a06220"
    ),
    penalty_txid=bytes.fromhex("5c748e62922f3aff37d240cef1d206d40be66211472cbc4c9a436d7d4c879d18"),
    penalty_sighash=bytes.fromhex("53825b4ef04f4e5e542bbfd3440eee71bf579526c1d8d70b79e6606560503a2a"),
    contest_key=bytes.fromhex("0206d9736c56475a20a1dd8116f853f74cc01d7e35b1ca80dd0a8e6b4de7161fd5"),
)

EXAMPLES = (TAPROOT_EXAMPLE, SEGWIT_EXAMPLE)
"""Both are sung by every tower: channels of the profile that is not set any more are watched to their end."""


@cache
def channel_of(example: Example) -> Channel:
    """The channel as the tower of the victim knows it, folded from its registration; it is in no log."""
    params = msgspec.structs.replace(ChannelParams.decode(_PARAMS), profile=example.profile)
    buckets = NO_SECRETS
    for sequence, secret in enumerate(_SECRETS):
        buckets = insert_secret(buckets, secret, index_of(sequence))
    registered = ChannelRegistered(
        recorded_at=0,
        mode=Mode.KEYED,
        params=params.encode(),
        watched=Side.A,
        sweep_spk=_SWEEP,
        client_key=params.keys_b.auth,
        highest_revoked=BREACH_SEQUENCE,
        points=_NEXT_POINTS,
        buckets=buckets,
        policy=b"",
        upload_sha256=bytes(32),
        upload_sig=bytes(64),
        tip_height=0,
    )
    (event,) = envelopes("canary", 0, [registered])
    return evolve(None, event)
