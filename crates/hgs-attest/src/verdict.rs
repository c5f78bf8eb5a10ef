//! What an attestation comes to, in every mode.

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::rsa::PublicKey;
use hgs_pki::health::{HealthKind, HealthStatement, HostId};

use crate::facts::AttestationFacts;
use crate::identities::IdentityTransition;
use crate::policy::NextBootClaim;
use crate::refusal::Refusal;
use crate::wire::Reply;

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a verdict is recorded, counted and answered"]
pub enum Verdict {
    /// The host gets a health certificate, once the grant is recorded.
    Healthy(Grant),
    /// The host is asked for more. Nothing is recorded: what the server has to remember is in the reply.
    Continue(Continuation),
    /// The host gets none.
    Refused(Refusal),
}

impl Verdict {
    /// What is known of the host.
    #[must_use]
    pub fn facts(&self) -> &AttestationFacts {
        match self {
            Self::Healthy(grant) => grant.facts(),
            Self::Continue(continuation) => &continuation.facts,
            Self::Refused(refusal) => refusal.facts(),
        }
    }

    /// `healthy`, `continue`, or the code of the refusal: for audit records and as a metric's label.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Healthy(_) => "healthy",
            Self::Continue(_) => "continue",
            Self::Refused(refusal) => refusal.code().name(),
        }
    }
}

/// A reply that is not the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The reply to the host, with status 200.
    pub reply: Reply,
    /// What is known of the host so far.
    pub facts: AttestationFacts,
}

/// The right to one health certificate, which is to be recorded before it is used. Each mode makes it in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a grant does nothing until it is recorded"]
pub struct Grant {
    /// What the health certificate is for.
    pub(crate) kind: HealthKind,
    pub(crate) identity_key: PublicKey,
    pub(crate) identity_digest: Sha256Digest,
    pub(crate) statement: HealthStatement,
    pub(crate) transition: IdentityTransition,
    pub(crate) next_boot: Option<Box<NextBootClaim>>,
    pub(crate) returned_nonce: bool,
    pub(crate) facts: AttestationFacts,
}

/// What a mode has found out about a host that is healthy.
#[derive(Debug)]
pub struct Finding {
    /// What the health certificate is for.
    pub kind: HealthKind,
    /// The key that it is over.
    pub identity_key: PublicKey,
    /// The digest by which the key is recorded: that of its SubjectPublicKeyInfo, or in TPM mode the one in its Name.
    pub identity_digest: Sha256Digest,
    /// What it will say.
    pub statement: HealthStatement,
    /// What becomes of the host's identity keys.
    pub transition: IdentityTransition,
    /// What the host will boot next, as it says, and as its TPM has confirmed that it says.
    pub next_boot: Option<Box<NextBootClaim>>,
    /// Whether the request was shown to have been made now.
    pub returned_nonce: bool,
}

impl Grant {
    /// For a mode: the right to a health certificate that says what was found.
    pub fn new(finding: Finding, facts: AttestationFacts) -> Self {
        let Finding {
            kind,
            identity_key,
            identity_digest,
            statement,
            transition,
            next_boot,
            returned_nonce,
        } = finding;
        Self {
            kind,
            identity_key,
            identity_digest,
            statement,
            transition,
            next_boot,
            returned_nonce,
            facts,
        }
    }

    /// What becomes of the host's identity keys. The host is that of [`Self::host_id`].
    pub fn transition(&self) -> &IdentityTransition {
        &self.transition
    }

    /// What the host will boot next, as it says: it is added to the host's record in the commit that records the grant. `None`
    /// if it says nothing that is new.
    #[must_use]
    pub fn next_boot(&self) -> Option<&NextBootClaim> {
        self.next_boot.as_deref()
    }

    /// Whether the request was shown to have been made now, so that this host is held to that.
    #[must_use]
    pub fn returned_nonce(&self) -> bool {
        self.returned_nonce
    }

    /// The key that the health certificate is over.
    #[must_use]
    pub fn identity_key(&self) -> &PublicKey {
        &self.identity_key
    }

    /// The digest by which that key is recorded.
    #[must_use]
    pub fn identity_digest(&self) -> &Sha256Digest {
        &self.identity_digest
    }

    /// The host.
    #[must_use]
    pub fn host_id(&self) -> HostId {
        self.statement.host_id
    }

    /// What the health certificate is for.
    #[must_use]
    pub fn kind(&self) -> HealthKind {
        self.kind
    }

    /// What the health certificate will say.
    #[must_use]
    pub fn statement(&self) -> &HealthStatement {
        &self.statement
    }

    /// What is known of the host.
    #[must_use]
    pub fn facts(&self) -> &AttestationFacts {
        &self.facts
    }

    /// To be called when the transition and the audit record are durable, and not before: if the transition were lost
    /// after the certificate left, the key that it supersedes would be good again.
    ///
    /// The registry may have changed since it was looked at. The transaction that records the transition checks that the
    /// host is still registered and not revoked, and that
    /// [`HostIdentities::present`](crate::HostIdentities::present) still gives a transition.
    #[must_use]
    pub fn recorded(self) -> RecordedGrant {
        RecordedGrant(self)
    }
}

/// A grant of which the caller says that it is recorded durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedGrant(Grant);

impl RecordedGrant {
    /// The grant.
    pub fn grant(&self) -> &Grant {
        &self.0
    }
}
