//! What administrators ask of keys and certificates beside their records: certificates over keys in tokens, and
//! signatures outside of hosts' requests.

use hgs_crypto::rsa::OaepHash;
use hgs_custody::KeyWork;
use hgs_custody::key_reference::Pkcs11Uris;
use hgs_custody_pkcs11::Usage;
use hgs_pki::Certificate;
use hgs_pki::issue::Template;
use hgs_store::CertificateKind;

use super::Guardian;
use super::initialise::{InitialiseError, KeySize, found_or_generated, proved_in_tokens};
use super::key_work::SnapshotKeys;
use super::keys::KeyTable;
use super::rotation::signed_by;

impl Guardian {
    /// A certificate that signs itself, over the key at the first of `uris`, which is made there unless it is there. It
    /// blocks.
    pub(crate) fn certify_in_token(
        &self,
        template: Template,
        kind: CertificateKind,
        uris: &Pkcs11Uris,
        size: KeySize,
    ) -> Result<Certificate, InitialiseError> {
        let key = found_or_generated(&self.tokens, &uris.primary, usage(kind), size)?;
        Ok(signed_by(template, &key)?)
    }

    /// Has the key of `certificate` do its work at each of `uris`, and tells which hash they all do OAEP with. It blocks.
    pub(crate) fn prove_in_tokens(
        &self,
        certificate: &Certificate,
        kind: CertificateKind,
        uris: &Pkcs11Uris,
    ) -> Result<OaepHash, InitialiseError> {
        proved_in_tokens(&self.tokens, certificate, usage(kind), uris)
    }

    /// Does `work` with the private keys of a snapshot, for what no host waits for. It blocks.
    pub(crate) fn with_keys<T>(
        &self,
        keys: &KeyTable,
        work: impl FnOnce(&mut dyn KeyWork) -> T,
    ) -> T {
        let turn = &mut self.workers.turn();
        work(&mut SnapshotKeys { keys, turn })
    }
}

/// What the key of a certificate of this kind does.
pub(super) fn usage(kind: CertificateKind) -> Usage {
    match kind {
        CertificateKind::Encryption => Usage::Decrypt,
        CertificateKind::Signing | CertificateKind::Communications => Usage::Sign,
    }
}
