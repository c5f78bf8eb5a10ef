//! A key protector, before and after its verification.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use hgs_pki::{CertificateCache, SignatureCache};

use crate::contents::Contents;
use crate::{
    CannotOpen, ProtectorDigest, ProtectorError, TransportKey, Wrapping, WrappingId, chain, read,
};

/// A key protector ([MS-KPS] 2.2.2.3) of the right form, whose signatures and MAC are not verified yet.
pub struct Protector {
    contents: Contents,
    /// Where the keys of its certificates are examined once the signatures have verified.
    certificates: CertificateCache,
}

/// A key protector whose chain and guardian signature hold. Cloning shares the contents.
///
/// Its MAC is another matter: that needs the transport key ([`Self::check_transport_key`]).
#[derive(Clone)]
pub struct VerifiedProtector(Arc<Contents>);

impl Protector {
    /// Reads a protector: at most 256 KiB and [`MAX_WRAPPINGS`](crate::MAX_WRAPPINGS), nothing that the schema does not name, no algorithm
    /// that is not in the suite. `certificates` keeps keys from being parsed twice.
    pub fn read(octets: &[u8], certificates: &CertificateCache) -> Result<Self, ProtectorError> {
        Ok(Self {
            contents: read::protector(octets, certificates)?,
            certificates: certificates.clone(),
        })
    }

    /// Checks the chain from every wrapping to the one owner, the guardian signature, and only then the keys for weaknesses.
    /// `signatures` remembers the signatures over certificates, which come again with every roll.
    pub fn verify(self, signatures: &SignatureCache) -> Result<VerifiedProtector, ProtectorError> {
        let Self {
            contents,
            certificates,
        } = self;
        chain::verify(&contents.wrappings, signatures)?;
        let id = contents.guardian;
        let guardian = contents
            .wrapping(id)
            .ok_or(ProtectorError::GuardianMissing { id })?;
        let signature = &contents.guardian_signature;
        guardian
            .signing_certificate()
            .public_key()
            .verify_digest(
                signature.scheme,
                contents.digest.as_bytes(),
                &signature.value,
            )
            .map_err(|_| ProtectorError::GuardianSignature { id })?;
        // The search for weak keys is the most expensive part, and strangers' certificates are not remembered.
        for (place, wrapping) in contents.wrappings.iter().enumerate() {
            wrapping
                .examine_keys(&certificates)
                .map_err(|error| ProtectorError::Wrapping {
                    position: place + 1,
                    error,
                })?;
        }
        Ok(VerifiedProtector(Arc::new(contents)))
    }

    /// The document that it was read from.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.contents.octets
    }

    /// Its name, which is that of the document.
    #[must_use]
    pub fn digest(&self) -> ProtectorDigest {
        self.contents.digest
    }

    /// Its unverified contents, for diagnosis only.
    #[must_use]
    pub fn unverified(&self) -> Unverified<'_> {
        Unverified(&self.contents)
    }
}

impl fmt::Debug for Protector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Protector({}, not verified)", self.digest())
    }
}

/// The contents of a protector that is not verified: only for showing why it is invalid.
pub struct Unverified<'a>(&'a Contents);

impl<'a> Unverified<'a> {
    /// The wrappings that it claims to have.
    #[must_use]
    pub fn wrappings(&self) -> &'a [Wrapping] {
        &self.0.wrappings
    }

    /// The wrapping that claims to have signed it.
    #[must_use]
    pub fn guardian(&self) -> WrappingId {
        self.0.guardian
    }
}

impl VerifiedProtector {
    /// What was made here: the caller vouches for the chain and has verified the guardian signature.
    pub(crate) fn vouched(contents: Contents) -> Self {
        Self(Arc::new(contents))
    }

    /// The whole document.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0.octets
    }

    /// Its name.
    #[must_use]
    pub fn digest(&self) -> ProtectorDigest {
        self.0.digest
    }

    /// The wrappings in the order of the document; never none.
    #[must_use]
    pub fn wrappings(&self) -> &[Wrapping] {
        &self.0.wrappings
    }

    /// The owner's wrapping.
    #[must_use]
    pub fn owner(&self) -> &Wrapping {
        self.wrappings()
            .iter()
            .find(|wrapping| wrapping.is_owner())
            .expect("a verified chain ends at the owner")
    }

    /// The wrapping whose key made the guardian signature.
    #[must_use]
    pub fn guardian(&self) -> &Wrapping {
        self.wrapping(self.0.guardian)
            .expect("a verified signature is by a wrapping that is there")
    }

    /// The wrapping with this Id.
    #[must_use]
    pub fn wrapping(&self, id: WrappingId) -> Option<&Wrapping> {
        self.0.wrapping(id)
    }

    /// `ids` and every wrapping that reaches one of them over its parents.
    #[must_use]
    pub fn with_descendants(
        &self,
        ids: impl IntoIterator<Item = WrappingId>,
    ) -> BTreeSet<WrappingId> {
        chain::with_descendants(self.wrappings(), ids)
    }

    /// A wrapping, its parent, and so on up to the owner: all who have endorsed it.
    pub fn ancestry<'a>(&'a self, wrapping: &'a Wrapping) -> impl Iterator<Item = &'a Wrapping> {
        std::iter::successors(Some(wrapping), |at| {
            // A verified chain has no circle: it ends at the owner.
            (!at.is_owner()).then(|| self.wrapping(at.parent()))?
        })
    }

    /// The attribute `MaxOfflineUnwraps`. No signature covers it: **nothing is granted because of it**.
    #[must_use]
    pub fn max_offline_unwraps(&self) -> u32 {
        self.0.max_offline_unwraps
    }

    /// Checks the MAC of `TransportKeySignature` under `key`, in constant time.
    ///
    /// # Errors
    /// When the protector was not sealed with this key.
    pub fn check_transport_key(&self, key: &TransportKey) -> Result<(), CannotOpen> {
        key.verify_mac(&self.0.signed, &self.0.mac)
            .map_err(|_| CannotOpen)
    }
}

impl PartialEq for VerifiedProtector {
    /// The same document, octet for octet.
    fn eq(&self, other: &Self) -> bool {
        self.octets() == other.octets()
    }
}

impl Eq for VerifiedProtector {}

impl fmt::Debug for VerifiedProtector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifiedProtector({})", self.digest())
    }
}
