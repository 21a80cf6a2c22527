"""Every event of a channel checked again: what an auditor can know of it from the log alone.

Pure: the events of a stream in order and the chain beside them go in, flaws come out. The rules and the cryptography
are those of the deciders; nothing here decides anything.
"""

from __future__ import annotations

from domain.recheck.stream import begin, recheck
from domain.recheck.subject import ChainView, Flaw, Glance, Subject, Tally

__all__ = ["ChainView", "Flaw", "Glance", "Subject", "Tally", "begin", "recheck"]
