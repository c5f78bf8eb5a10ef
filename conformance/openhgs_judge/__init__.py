"""A second implementation of the OpenHGS protocol profile, to judge the first.

It was written from docs/protocol-profile.md, [MS-KPS] and [MS-HGSA] alone. It shares no code
with OpenHGS: where the two disagree, one of them, or the page, is wrong.

It does not keep state, guard secrets in memory, or defend itself against timing: it is a judge for
tests, never a service.
"""


class Refused(Exception):
    """A document, certificate or reply that the profile does not allow.

    `reason` is one of the keywords listed in README.md; `detail` is for people.
    """

    def __init__(self, reason, detail=""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
