//! What administrators ask of keys and certificates beside their records: certificates over keys in tokens, and
//! signatures outside of hosts' requests.

use std::sync::{Arc, Mutex, PoisonError};

use hgs_crypto::rsa::OaepHash;
use hgs_custody::KeyWork;
use hgs_custody::key_reference::Pkcs11Uris;
use hgs_custody_pkcs11::{Tokens, Usage};
use hgs_pki::Certificate;
use hgs_pki::issue::Template;
use hgs_store::CertificateKind;

use super::initialise::{
    InitialiseError, KeyOrigin, KeySize, LocatedKey, Making, after_making, proved_in_tokens,
};
use super::key_work::SnapshotKeys;
use super::keys::KeyTable;
use super::rotation::signed_by;
use super::workers::Workers;

/// A certificate over a key in a token.
pub(crate) struct CertifiedInToken {
    pub(crate) certificate: Certificate,
    /// Where the key is: with its identifier, if it was made.
    pub(crate) uris: Pkcs11Uris,
    pub(crate) origin: KeyOrigin,
    /// The hash that the key does OAEP with.
    pub(crate) hash: OaepHash,
}

/// Does what administrators ask of private keys.
pub(crate) struct Certification {
    pub(crate) tokens: Tokens,
    pub(crate) workers: Arc<Workers>,
}

impl Certification {
    /// A certificate that signs itself, over the key at the first of `uris`, which is made there if it is not there and
    /// `new_key` says so. It blocks.
    pub(crate) fn certify_in_token(
        &self,
        template: Template,
        kind: CertificateKind,
        uris: &Pkcs11Uris,
        size: KeySize,
        new_key: bool,
    ) -> Result<CertifiedInToken, InitialiseError> {
        let located = LocatedKey::find(&self.tokens, uris.clone(), new_key)?;
        let made = Mutex::new(Vec::new());
        let making = Making {
            size,
            tokens: &self.tokens,
            made: &made,
        };
        let outcome =
            located
                .found_or_made(usage(kind), &making)
                .and_then(|(key, uris, origin)| {
                    let certificate = signed_by(template, &key)?;
                    let hash = proved_in_tokens(&self.tokens, &certificate, usage(kind), &uris)?;
                    Ok(CertifiedInToken {
                        certificate,
                        uris,
                        origin,
                        hash,
                    })
                });
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.map_err(|error| after_making(made, error))
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
