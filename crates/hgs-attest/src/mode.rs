//! Modes of operation and their paths. A server is in one mode; a host that comes by another's path is sent on.

use std::fmt;

use hgs_crypto::random::Random;
use hgs_pki::Time;

use crate::freshness::NonceKey;
use crate::refusal::Reason;
use crate::registry::HostRegistry;
use crate::verdict::Verdict;
use crate::wire::AttestationOperationMode;

/// One way of attesting: a pure function from a request, the registry and the time to a verdict. It changes nothing;
/// what it would change in the registry is in the [`Grant`](crate::Grant).
pub trait Mode: fmt::Debug + Send + Sync {
    /// Which mode it is; its path is that of [`Endpoint::of_mode`].
    fn operation_mode(&self) -> AttestationOperationMode;

    /// Decides what the host gets. `random` is for contexts that travel with the host.
    fn evaluate(
        &self,
        attempt: &Attempt<'_>,
        hosts: &dyn HostRegistry,
        random: &mut dyn Random,
    ) -> Verdict;
}

/// One request, and what it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The body.
    pub body: &'a [u8],
    /// The value of the header [`PROOF_HEADER`](crate::freshness::PROOF_HEADER), if there is one.
    pub proof: Option<&'a str>,
    /// The key of the service's nonces.
    pub nonces: &'a NonceKey,
    /// Whether hosts have to return a nonce that never have.
    pub require_nonce: bool,
    /// The time.
    pub now: Time,
}

/// An operation by which a host attests, one for each mode ([MS-HGSA] 3.1.5.1 to 3.1.5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `/attest`: by TPM.
    Attest,
    /// `/domainattest`: by membership in a group of Active Directory.
    DomainAttest,
    /// `/hostkeyattest`: by host key.
    HostKeyAttest,
}

impl Endpoint {
    /// The mode it belongs to.
    #[must_use]
    pub fn mode(self) -> AttestationOperationMode {
        match self {
            Self::Attest => AttestationOperationMode::Tpm,
            Self::DomainAttest => AttestationOperationMode::ActiveDirectory,
            Self::HostKeyAttest => AttestationOperationMode::HostKey,
        }
    }

    /// The operation of a mode; `None` for an unknown mode.
    #[must_use]
    pub fn of_mode(mode: AttestationOperationMode) -> Option<Self> {
        match mode {
            AttestationOperationMode::Tpm => Some(Self::Attest),
            AttestationOperationMode::ActiveDirectory => Some(Self::DomainAttest),
            AttestationOperationMode::HostKey => Some(Self::HostKeyAttest),
            AttestationOperationMode::Unknown | AttestationOperationMode::Unnamed(_) => None,
        }
    }

    /// Where a host of today finds it, below the attestation URL (which ends in `/Attestation`).
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Attest => "/v2.0/attest",
            Self::DomainAttest => "/v2.0/domainattest",
            Self::HostKeyAttest => "/v2.0/hostkeyattest",
        }
    }

    /// Whether a server in mode `configured` attests here.
    ///
    /// # Errors
    ///
    /// [`Reason::OperationMode`], which sends the host to the right operation whatever it asked for.
    pub fn check_mode(self, configured: AttestationOperationMode) -> Result<(), Reason> {
        if self.mode() == configured {
            return Ok(());
        }
        Err(Reason::OperationMode {
            expected: configured,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;
    use crate::wire::Reply;

    const ALL: [Endpoint; 3] = [
        Endpoint::Attest,
        Endpoint::DomainAttest,
        Endpoint::HostKeyAttest,
    ];

    /// attacks.md A12: there is no second front door. A server attests in one mode, and by no other's path.
    #[test]
    fn a12_each_mode_has_its_path_and_every_other_is_sent_there() {
        for endpoint in ALL {
            assert_eq!(Endpoint::of_mode(endpoint.mode()), Some(endpoint));
            for other in ALL {
                let checked = other.check_mode(endpoint.mode());
                if other == endpoint {
                    assert_eq!(checked, Ok(()));
                    continue;
                }
                let refusal = Refusal::from(checked.unwrap_err());
                let Reply::OperationModeError(reply) = refusal.reply() else {
                    panic!("another reply");
                };
                assert_eq!(reply.expected_operation_mode, endpoint.mode());
            }
        }
    }
}
