//! Which makers of TPMs are trusted, and paths to them.

use std::collections::BTreeMap;

use hgs_crypto::rsa::PublicKey;

use super::{EndorsementAuthority, EndorsementCertificate, EndorsementTrustError};
use crate::certificate::AnyKeyCertificate;
use crate::{Time, Validity, ValidityStatus};

/// Intermediate certificates that may come with an EK certificate, and that a path may have. Makers have at most two.
pub const MAX_PATH_INTERMEDIATES: usize = 6;

/// Signatures that one search verifies. Without a limit, the paths that a hostile set of namesakes offers grow with its factorial.
const MAX_SIGNATURES: usize = 64;

/// How errors call the EK certificate itself, whose subject is often empty.
const LEAF: &str = "the EK certificate";

/// The authorities that administrators trust to vouch for TPMs.
///
/// A *root* is trusted because it is here, whether it is self-signed or not: many makers' intermediate certificates can be
/// had more easily than the roots above them. An *intermediate* certificate only helps to find the way to a root.
#[derive(Debug, Clone, Default)]
pub struct EndorsementRoots {
    roots: BySubject,
    intermediates: BySubject,
}

/// Authorities by the DER of their names.
type BySubject = BTreeMap<Vec<u8>, Vec<EndorsementAuthority>>;

/// An EK certificate that leads to a trusted maker, and is over the TPM's own key. Only [`EndorsementRoots::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEndorsement {
    certificate: EndorsementCertificate,
    path: Vec<EndorsementAuthority>,
}

impl VerifiedEndorsement {
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &EndorsementCertificate {
        &self.certificate
    }

    /// Its issuer, the issuer of that, and so on to the root.
    #[must_use]
    pub fn path(&self) -> &[EndorsementAuthority] {
        &self.path
    }
}

impl EndorsementRoots {
    /// Trusts `roots`, and finds the way to them through `intermediates` as well.
    pub fn new(
        roots: impl IntoIterator<Item = EndorsementAuthority>,
        intermediates: impl IntoIterator<Item = EndorsementAuthority>,
    ) -> Self {
        Self {
            roots: by_subject(roots),
            intermediates: by_subject(intermediates),
        }
    }

    /// Checks that `certificate` is over `public`, the TPM's endorsement key, and leads at the time `when` to a root, also through `intermediates` that
    /// came with it, which are not trusted.
    ///
    /// Validity is judged last. So a refusal because something expired, or is not valid yet, says that all else is right;
    /// who accepts such TPMs on purpose verifies them for a time within [`EndorsementCertificate::validity`].
    pub fn verify(
        &self,
        certificate: &EndorsementCertificate,
        public: &PublicKey,
        intermediates: &[EndorsementAuthority],
        when: Time,
    ) -> Result<VerifiedEndorsement, EndorsementTrustError> {
        if certificate.public_key() != public {
            return Err(EndorsementTrustError::OtherKey);
        }
        if intermediates.len() > MAX_PATH_INTERMEDIATES {
            let found = intermediates.len();
            return Err(EndorsementTrustError::TooManyIntermediates(found));
        }
        let leaf = &certificate.0.certificate;
        let path = match self.path(leaf, LEAF, intermediates, Some(when)) {
            Ok(path) => path,
            Err(_) => {
                let path = self.path(leaf, LEAF, intermediates, None)?;
                path.iter()
                    .try_for_each(|authority| check_authority_validity(authority, when))?;
                path
            }
        };
        let validity = certificate.validity();
        match validity.status(when) {
            ValidityStatus::NotYetValid => {
                Err(EndorsementTrustError::NotYetValid(validity.not_before))
            }
            ValidityStatus::Expired => Err(EndorsementTrustError::Expired(validity.not_after)),
            ValidityStatus::Valid | ValidityStatus::ExpiresSoon => Ok(VerifiedEndorsement {
                certificate: certificate.clone(),
                path,
            }),
        }
    }

    /// The path from an authority to a root, whatever is expired; empty if it is a root itself. For administrators to see what their
    /// certificates are good for.
    pub fn path_of_authority(
        &self,
        authority: &EndorsementAuthority,
    ) -> Result<Vec<EndorsementAuthority>, EndorsementTrustError> {
        let certificate = authority.certificate();
        match named(&self.roots, &certificate.subject.der).contains(authority) {
            true => Ok(Vec::new()),
            false => self.path(certificate, authority.subject(), &[], None),
        }
    }

    fn path(
        &self,
        leaf: &AnyKeyCertificate,
        subject: &str,
        offered: &[EndorsementAuthority],
        when: Option<Time>,
    ) -> Result<Vec<EndorsementAuthority>, EndorsementTrustError> {
        if self.roots.is_empty() {
            return Err(EndorsementTrustError::NoRoots);
        }
        let mut search = Search {
            trusted: self,
            offered,
            when,
            signatures: 0,
            path: Vec::new(),
        };
        search.extend(leaf, subject)?;
        Ok(search.path.into_iter().cloned().collect())
    }
}

fn by_subject(authorities: impl IntoIterator<Item = EndorsementAuthority>) -> BySubject {
    let mut by_subject = BySubject::new();
    for authority in authorities {
        let subject = authority.certificate().subject.der.clone();
        let namesakes = by_subject.entry(subject).or_default();
        if !namesakes.contains(&authority) {
            namesakes.push(authority);
        }
    }
    by_subject
}

fn named<'a>(authorities: &'a BySubject, subject: &[u8]) -> &'a [EndorsementAuthority] {
    authorities.get(subject).map_or(&[], Vec::as_slice)
}

fn check_authority_validity(
    authority: &EndorsementAuthority,
    when: Time,
) -> Result<(), EndorsementTrustError> {
    let Validity {
        not_before,
        not_after,
    } = authority.validity();
    let subject = || authority.subject().to_owned();
    match authority.validity().status(when) {
        ValidityStatus::NotYetValid => Err(EndorsementTrustError::AuthorityNotYetValid {
            subject: subject(),
            not_before,
        }),
        ValidityStatus::Expired => Err(EndorsementTrustError::AuthorityExpired {
            subject: subject(),
            not_after,
        }),
        ValidityStatus::Valid | ValidityStatus::ExpiresSoon => Ok(()),
    }
}

/// Which of two refusals an administrator learns more from: the first that is about a certificate that is there.
///
/// # Errors
/// The refusal that ends the whole search.
fn more_telling(
    before: Option<EndorsementTrustError>,
    refusal: EndorsementTrustError,
) -> Result<EndorsementTrustError, EndorsementTrustError> {
    match (before, refusal) {
        (_, refusal @ EndorsementTrustError::TooManyPaths) => Err(refusal),
        (None | Some(EndorsementTrustError::UnknownIssuer { .. }), refusal) => Ok(refusal),
        (Some(before), _) => Ok(before),
    }
}

/// A search in depth for a path to a root.
struct Search<'a> {
    trusted: &'a EndorsementRoots,
    offered: &'a [EndorsementAuthority],
    /// The time at which every authority of the path is to be valid, if validity counts.
    when: Option<Time>,
    signatures: usize,
    path: Vec<&'a EndorsementAuthority>,
}

impl<'a> Search<'a> {
    /// Extends the path, whose last certificate is `below`, to a root.
    fn extend(
        &mut self,
        below: &AnyKeyCertificate,
        subject: &str,
    ) -> Result<(), EndorsementTrustError> {
        let trusted = self.trusted;
        let issuer = &below.issuer.der;
        let mut refusal = None;
        for root in named(&trusted.roots, issuer) {
            match self.check(root, below, subject) {
                Ok(()) => {
                    self.path.push(root);
                    return Ok(());
                }
                Err(error) => refusal = Some(more_telling(refusal, error)?),
            }
        }
        let offered = self.offered.iter();
        let offered = offered.filter(|authority| authority.certificate().subject.der == *issuer);
        for authority in named(&trusted.intermediates, issuer).iter().chain(offered) {
            match self.extend_through(authority, below, subject) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Some(more_telling(refusal, error)?),
            }
        }
        Err(
            refusal.unwrap_or_else(|| EndorsementTrustError::UnknownIssuer {
                subject: subject.to_owned(),
                issuer: below.issuer.text().to_owned(),
            }),
        )
    }

    fn extend_through(
        &mut self,
        authority: &'a EndorsementAuthority,
        below: &AnyKeyCertificate,
        subject: &str,
    ) -> Result<(), EndorsementTrustError> {
        if self.path.contains(&authority) || authority.is_self_issued() {
            // Neither leads further up.
            return Err(EndorsementTrustError::UnknownIssuer {
                subject: authority.subject().to_owned(),
                issuer: authority.issuer().to_owned(),
            });
        }
        if !authority.may_be_intermediate() {
            let subject = authority.subject().to_owned();
            return Err(EndorsementTrustError::NotIntermediate(subject));
        }
        if self.path.len() == MAX_PATH_INTERMEDIATES {
            return Err(EndorsementTrustError::TooDeep);
        }
        self.check(authority, below, subject)?;
        self.path.push(authority);
        let extended = self.extend(authority.certificate(), authority.subject());
        if extended.is_err() {
            self.path.pop();
        }
        extended
    }

    /// Checks that `authority` issued `below`, and was allowed to.
    fn check(
        &mut self,
        authority: &EndorsementAuthority,
        below: &AnyKeyCertificate,
        subject: &str,
    ) -> Result<(), EndorsementTrustError> {
        if let Some(when) = self.when {
            check_authority_validity(authority, when)?;
        }
        let allowed = authority.certificate().extensions.path_length;
        if allowed.is_some_and(|allowed| self.path.len() > usize::from(allowed)) {
            let subject = authority.subject().to_owned();
            return Err(EndorsementTrustError::PathLength(subject));
        }
        if self.signatures == MAX_SIGNATURES {
            return Err(EndorsementTrustError::TooManyPaths);
        }
        self.signatures += 1;
        authority.verify_signature(below, subject)
    }
}
