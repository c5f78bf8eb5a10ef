//! What administrators ask of keys and certificates beside their records: certificates over keys in tokens, and
//! signatures outside of hosts' requests.

use std::sync::Arc;

use hgs_admin::AdminError;
use hgs_crypto::rsa::OaepHash;
use hgs_custody::key_reference::Pkcs11Uris;
use hgs_custody::{KeyWork, Pkcs11Uri, PrivateKey as _};
use hgs_custody_pkcs11::{Tokens, Usage};
use hgs_kps::CertificateKind;
use hgs_pki::issue::Template;
use hgs_pki::{Certificate, Thumbprint, Time};
use hgs_store::State;

use super::certify::KeySize;
use super::initialise::{guardian_templates, guardian_validity};
use super::initialise_error::InitialiseError;
use super::key_source::{CertificateSource, Certified, LocatedSource, Pair};
use super::key_work::SnapshotKeys;
use super::keys::KeyTable;
use super::token_keys::{LocatedKey, NewKeys, proved_in_tokens};
use super::workers::Workers;

/// A new pair was not made. Nothing is on record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    /// A key or certificate could not be made.
    #[error(transparent)]
    Making(#[from] InitialiseError),
    /// A named key is not new.
    #[error("the key {uri} is that of certificate {certificate} already")]
    KnownKey {
        /// Which key.
        uri: Box<Pkcs11Uri>,
        /// Whose.
        certificate: Thumbprint,
    },
    /// The pair could not be put on record.
    #[error("{error}")]
    Recording {
        /// The keys that were made in tokens, and are left there.
        made: Vec<Pkcs11Uri>,
        /// Why.
        error: AdminError,
    },
}

/// What a new pair is made of.
pub(crate) struct PairRequest<'a> {
    /// In both subjects.
    pub(crate) name: &'a str,
    pub(crate) sources: Pair<CertificateSource>,
    /// Of keys that are generated.
    pub(crate) size: KeySize,
    /// Whether keys that are named in tokens are generated there.
    pub(crate) make_in_tokens: bool,
    /// From when on the certificates are valid.
    pub(crate) now: Time,
}

/// Does what administrators ask of private keys.
pub(crate) struct Certification {
    pub(crate) tokens: Tokens,
    pub(crate) workers: Arc<Workers>,
}

impl Certification {
    /// A certificate that signs itself, over the key at the first of `uris`, which is made there if it is not there and
    /// `new_key` says so. Then no certificate may be on record over it: what is asked for was done before. It blocks.
    pub(crate) fn certify_in_token(
        &self,
        state: &State,
        template: Template,
        kind: CertificateKind,
        uris: &Pkcs11Uris,
        size: KeySize,
        new_key: bool,
    ) -> Result<Certified, RenewalError> {
        let located = LocatedSource::InToken {
            key: LocatedKey::find(&self.tokens, uris.clone(), new_key)?,
            certificate: None,
        };
        if new_key {
            refuse_known_key(state, &located)?;
        }
        let new_keys = NewKeys::new(size, &self.tokens);
        located
            .certified(template, usage(kind), &new_keys)
            .map_err(|error| new_keys.blame(error).into())
    }

    /// A new signing and a new encryption certificate, over new keys: all that is named in tokens is looked for before
    /// anything is made. `keep` puts them on record; if it fails, the error names the keys that were made in tokens. It
    /// blocks.
    pub(crate) fn renew_pair<T>(
        &self,
        state: &State,
        request: PairRequest<'_>,
        keep: impl FnOnce(Pair<Certified>) -> Result<T, AdminError>,
    ) -> Result<T, RenewalError> {
        let located = Pair::located(request.sources, &self.tokens, request.make_in_tokens)?;
        // A certificate over a key that another one has already would rotate nothing.
        refuse_known_key(state, &located.signing)?;
        refuse_known_key(state, &located.encryption)?;
        let templates = guardian_templates(request.name, guardian_validity(request.now));
        let new_keys = NewKeys::new(request.size, &self.tokens);
        let certified = match located.certified(templates, &new_keys) {
            Ok(certified) => certified,
            Err(error) => return Err(new_keys.blame(error).into()),
        };
        keep(certified).map_err(|error| RenewalError::Recording {
            made: new_keys.made(),
            error,
        })
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
        let processor = &mut self.workers.processor();
        work(&mut SnapshotKeys { keys, processor })
    }
}

/// Refuses a key that was found in a token and has a certificate already.
fn refuse_known_key(state: &State, located: &LocatedSource) -> Result<(), RenewalError> {
    let LocatedSource::InToken { key, .. } = located else {
        return Ok(());
    };
    let known = key.found().and_then(|found| {
        let mut records = state.certificates();
        records.find(|record| record.certificate.public_key() == found.public())
    });
    match known {
        Some(record) => Err(RenewalError::KnownKey {
            uri: Box::new(key.name()),
            certificate: record.thumbprint(),
        }),
        None => Ok(()),
    }
}

/// What the key of a certificate of this kind does.
pub(super) fn usage(kind: CertificateKind) -> Usage {
    match kind {
        CertificateKind::Encryption => Usage::Decrypt,
        CertificateKind::Signing | CertificateKind::Communications => Usage::Sign,
    }
}
