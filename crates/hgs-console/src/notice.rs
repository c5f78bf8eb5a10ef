//! What a page says about what was done just before. It travels as a word in the query, so nobody can have a page say
//! something else.

use std::fmt;
use std::str::FromStr;

/// Declares the notices: each with its word, what was done, and what to do next.
macro_rules! notices {
    ($($name:ident $word:literal $done:literal $next:literal)+) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each says what it is")]
        pub enum Notice {
            $($name),+
        }

        impl Notice {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What was done, as the page says it.
            #[must_use]
            pub fn done(self) -> &'static str {
                match self {
                    $(Self::$name => $done),+
                }
            }

            pub(crate) fn next(self) -> &'static str {
                match self {
                    $(Self::$name => $next),+
                }
            }
        }

        impl fmt::Display for Notice {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self {
                    $(Self::$name => $word),+
                })
            }
        }
    };
}

notices! {
    SignedIn "signed-in"
        "You are signed in."
        "The link can't be used again. Sign out when you are done."
    SignedOut "signed-out"
        "You are signed out."
        "Run hgs console on the guardian's machine for a new link."
    SessionEnded "session-ended"
        "Your session has ended, and nothing was changed."
        "Run hgs console on the guardian's machine for a new link."
    HostAdded "host-added"
        "The host was added."
        "Run guarded-host attest on it: then this page shows whether it is healthy."
    HostRevoked "host-revoked"
        "The host was revoked. It gets no health certificate and no key from its next request on."
        "VMs that run there keep running: move or stop them. To let the host back in, remove it and readmit it with hgs host."
    HostApproved "host-approved"
        "What the host booted was approved."
        "Run guarded-host attest on it, or wait for its next attempt: then this page shows whether it is healthy."
    HostsApproved "hosts-approved"
        "What the hosts booted was approved."
        "Each is healthy from its next attempt on. To have it at once, run guarded-host attest on it."
    PolicyEnabled "policy-enabled"
        "The policy was enabled."
        "It counts from the next attempt of each host on. Refusals appear under Waiting for a decision."
    PolicyDisabled "policy-disabled"
        "The policy was disabled."
        "It does not count from the next attempt of each host on. Hosts that were refused attest again by themselves."
    PolicyReset "policy-reset"
        "The group follows the default group again."
        "It counts from the next attempt of each host on."
    DocumentAdded "document-added"
        "The document was added, and is enabled."
        "It counts from the next attempt of each host on. Refusals appear under Waiting for a decision."
    DocumentChanged "document-changed"
        "The document was changed."
        "It counts from the next attempt of each host on. Refusals appear under Waiting for a decision."
    AlternativeRetired "alternative-retired"
        "It is accepted no longer."
        "Hosts that boot it are refused from their next attempt on. To take it back, set the former document."
    DocumentRemoved "document-removed"
        "The document was removed."
        "Hosts that only it approved are refused from their next attempt on. To take it back, add it again from your copy."
    ReleaseTried "release-tried"
        "Keys were released to a host that the guardian had made up, and a tampered protector was refused."
        "If a VM does not start all the same, look at its host: guarded-host trace."
    CertificatesRotated "certificates-rotated"
        "Both halves of the pair were renewed."
        "Tell the owners the new thumbprint as you told the old one, and back up the state. Retire the old pair when nothing needs it."
    CertificateHead "certificate-head"
        "Protectors are made for this certificate from now on."
        "Tell the owners, who import the guardian anew. Make sure that the other half of the pair is the one that you mean."
    CertificateLabelled "certificate-labelled"
        "The label was changed."
        "Nothing else was."
    CertificateEnabled "certificate-enabled"
        "The certificate was enabled."
        "It opens protectors and signs from now on: start a machine that needs it."
    CertificateDisabled "certificate-disabled"
        "The certificate was disabled."
        "See whether machines fail to start in the next days. If one does, enable it again; if none does, it can be removed."
    CertificateRetired "certificate-retired"
        "The certificate was retired."
        "It goes on opening protectors. When it is needed no longer, disable it, wait, and remove it."
    CertificateCompromised "certificate-compromised"
        "The certificate was marked as compromised, and so was every other one over the same key."
        "Mark the other half of the pair, power every machine on once, and destroy older copies of their protectors."
    CertificateRemoved "certificate-removed"
        "The certificate was removed."
        "Keep the backups of the state that have it as long as you keep copies of machines from its time."
    TenantAdded "tenant-added"
        "The tenant's pair is here."
        "Give the tenant the document for owners, and the thumbprint by another way. The list below says what is missing."
    SignerAdded "signer-added"
        "The signer is believed from now on."
        "Have a host of the other cluster start a machine here."
    SignerLimited "signer-limited"
        "Those health certificates are refused, or accepted, from now on."
        "Hosts that this guardian attests attest again by themselves."
    SignerRetired "signer-retired"
        "The signer signs no more, and another one has taken over."
        "Nothing needs to be done: what it signed is accepted until it ends."
    SignerRemoved "signer-removed"
        "The signer was removed."
        "If it was the guardian's own, run guarded-host attest on the hosts, or wait for their next attempt."
    SessionRevoked "session-revoked"
        "The session was ended."
        "Its user can sign in again as long as the configuration gives the user a role."
}

impl FromStr for Notice {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let all = Self::ALL.iter().copied();
        all.into_iter()
            .find(|notice| notice.to_string() == word)
            .ok_or(())
    }
}
