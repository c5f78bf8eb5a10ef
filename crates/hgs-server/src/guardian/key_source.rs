//! Where a guardian's certificates and their private keys come from: made here, given, or in a token.

use std::thread;

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::OaepHash;
use hgs_custody::PrivateKey as _;
use hgs_custody::{Bundle, BundleError, KeyReference, Pkcs11Uris, SoftwareKey, self_signed};
use hgs_custody_pkcs11::{Tokens, Usage};
use hgs_pki::Certificate;
use hgs_pki::issue::Template;

use super::certify::{KeySize, signed_by};
use super::initialise_error::InitialiseError;
use super::token_keys::{KeyOrigin, LocatedKey, NewKeys, proved_in_tokens};

/// Where a certificate and its key come from.
#[derive(Debug)]
pub enum CertificateSource {
    /// They are made here; the certificate signs itself.
    Generate,
    /// They were made elsewhere.
    Given(GivenCertificate),
    /// The key is in a token. A certificate that is not given signs itself.
    InToken {
        /// Where the key is, and where the same key is once more.
        key: Box<Pkcs11Uris>,
        /// The certificate over it.
        certificate: Option<Certificate>,
    },
}

/// A certificate and its software key from outside.
#[derive(Debug)]
pub struct GivenCertificate {
    certificate: Certificate,
    key: SoftwareKey,
}

/// Files don't give a certificate with its key. The fault is the operator's.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// They can't be read, or one of the two is not in them.
    #[error(transparent)]
    Files(#[from] BundleError),
    /// The key belongs to another certificate.
    #[error("the private key is not that of the certificate {0}")]
    Mismatch(String),
}

impl GivenCertificate {
    /// Puts a certificate and its key together.
    ///
    /// # Errors
    /// [`GivenError::Mismatch`].
    pub fn new(certificate: Certificate, key: SoftwareKey) -> Result<Self, GivenError> {
        if key.public() != certificate.public_key() {
            return Err(GivenError::Mismatch(certificate.subject().to_owned()));
        }
        Ok(Self { certificate, key })
    }

    /// The certificate and the key in a bundle of files.
    ///
    /// # Errors
    /// [`GivenError::Files`].
    pub fn from_bundle(
        bundle: &Bundle,
        passphrase: Option<&SecretBytes>,
    ) -> Result<Self, GivenError> {
        let certified = bundle.certified(passphrase)?;
        Self::new(certified.certificate, certified.key)
    }
}

/// Where a private key comes from, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedKey {
    /// Where it comes from.
    pub origin: KeyOrigin,
    /// Where it is.
    pub place: KeyReference,
}

/// The signing and the encryption half of a guardian.
pub(crate) struct Pair<T> {
    pub(crate) signing: T,
    pub(crate) encryption: T,
}

impl Pair<LocatedSource> {
    /// Looks for all keys in tokens before any is made, and refuses one key for both uses: with it a signature could be
    /// had for a decryption, and the other way.
    pub(super) fn located(
        sources: Pair<CertificateSource>,
        tokens: &Tokens,
        new_keys: bool,
    ) -> Result<Self, InitialiseError> {
        let signing = LocatedSource::find(sources.signing, tokens, new_keys)?;
        let encryption = LocatedSource::find(sources.encryption, tokens, new_keys)?;
        if let (LocatedSource::InToken { key: one, .. }, LocatedSource::InToken { key: other, .. }) =
            (&signing, &encryption)
            && one.is_same(other)
        {
            return Err(InitialiseError::SameKey(Box::new(one.name())));
        }
        Ok(Self {
            signing,
            encryption,
        })
    }

    /// Makes what is to be made, both at once: most of the time goes into finding primes, for which nothing is shared.
    pub(super) fn certified(
        self,
        templates: Pair<Template>,
        new_keys: &NewKeys<'_>,
    ) -> Result<Pair<Certified>, InitialiseError> {
        let Self {
            signing,
            encryption,
        } = self;
        thread::scope(|scope| {
            let signing =
                scope.spawn(move || signing.certified(templates.signing, Usage::Sign, new_keys));
            let encryption = encryption.certified(templates.encryption, Usage::Decrypt, new_keys);
            Ok(Pair {
                signing: joined(signing)?,
                encryption: encryption?,
            })
        })
    }
}

/// A certificate, and where its key is.
pub(crate) struct Certified {
    pub(crate) certificate: Certificate,
    pub(crate) place: KeyReference,
    pub(crate) origin: KeyOrigin,
    pub(crate) sha1_only: bool,
    /// The key itself, where it is to be sealed here.
    pub(crate) key: Option<SoftwareKey>,
}

impl Certified {
    pub(super) fn generated(template: Template, size: KeySize) -> Result<Self, InitialiseError> {
        let (certificate, key) = self_signed(template, size.bits())?;
        Ok(Self::sealed(certificate, key, KeyOrigin::Made))
    }

    fn sealed(certificate: Certificate, key: SoftwareKey, origin: KeyOrigin) -> Self {
        Self {
            certificate,
            place: KeyReference::Sealed,
            origin,
            sha1_only: false,
            key: Some(key),
        }
    }

    pub(super) fn placed(&self) -> PlacedKey {
        PlacedKey {
            origin: self.origin,
            place: self.place.clone(),
        }
    }
}

/// A source of a certificate whose key in a token was looked for.
#[expect(
    clippy::large_enum_variant,
    reason = "there are two of them, once in a guardian's life"
)]
pub(super) enum LocatedSource {
    Generate,
    Given(GivenCertificate),
    InToken {
        key: LocatedKey,
        certificate: Option<Certificate>,
    },
}

impl LocatedSource {
    fn find(
        source: CertificateSource,
        tokens: &Tokens,
        new_keys: bool,
    ) -> Result<Self, InitialiseError> {
        Ok(match source {
            CertificateSource::Generate => Self::Generate,
            CertificateSource::Given(given) => Self::Given(given),
            CertificateSource::InToken { key, certificate } => Self::InToken {
                // Over a key that is yet to be made there is no certificate.
                key: LocatedKey::find(tokens, *key, new_keys && certificate.is_none())?,
                certificate,
            },
        })
    }

    pub(super) fn certified(
        self,
        template: Template,
        usage: Usage,
        new_keys: &NewKeys<'_>,
    ) -> Result<Certified, InitialiseError> {
        let (located, certificate) = match self {
            Self::Generate => return Certified::generated(template, new_keys.size),
            Self::Given(GivenCertificate { certificate, key }) => {
                return Ok(Certified::sealed(certificate, key, KeyOrigin::Given));
            }
            Self::InToken { key, certificate } => (key, certificate),
        };
        let (key, uris, origin) = located.found_or_made(usage, new_keys)?;
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => signed_by(template, &key)?,
        };
        let hash = proved_in_tokens(new_keys.tokens, &certificate, usage, &uris)?;
        Ok(Certified {
            certificate,
            place: uris.into(),
            origin,
            sha1_only: hash == OaepHash::Sha1,
            key: None,
        })
    }
}

pub(super) fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
