"""Power cuts at named points."""

from __future__ import annotations


class PowerCut(BaseException):
    """The process ends here."""


class Fuse:
    """A failpoint that cuts the power once, at the point that was armed."""

    def __init__(self) -> None:
        self.armed = ""

    def __call__(self, name: str) -> None:
        """Pass the point `name`, or not."""
        if name == self.armed:
            self.armed = ""
            raise PowerCut(name)
