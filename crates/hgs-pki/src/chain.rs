//! Paths from a certificate to configured roots, found and checked by `rustls-webpki`.

use std::time::Duration;

use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert, aws_lc_rs,
};

use crate::{Certificate, Time};

/// Intermediate certificates that one verification looks at. The number of paths that a hostile
/// set of namesakes offers grows with its factorial.
pub const MAX_INTERMEDIATES: usize = 8;

/// Why there is no path from a certificate to a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More than [`MAX_INTERMEDIATES`].
    #[error("chain comes with {0} intermediate certificates; {MAX_INTERMEDIATES} are accepted")]
    TooManyIntermediates(usize),
    /// Every root is outside its validity, or may not issue certificates.
    #[error("no configured root is valid at {0}")]
    NoRoot(Time),
    /// No path of issuers, whose key usage allows it, reaches a root.
    #[error("no path of issuers leads to a configured root")]
    UnknownIssuer,
    /// A certificate of the path has expired.
    #[error("a certificate of the chain expired at {0}")]
    Expired(Time),
    /// A certificate of the path is not yet valid.
    #[error("a certificate of the chain is not valid before {0}")]
    NotYetValid(Time),
    /// The issuer's name is right, and the signature is not by its key.
    #[error("a signature in the chain was not made by the issuer's key")]
    Signature,
    /// Signed otherwise than with RSA and SHA-256, SHA-384 or SHA-512.
    #[error("a certificate of the chain is signed with an algorithm that is not accepted")]
    UnsupportedAlgorithm,
    /// A certificate that is not an authority's has issued one of the path.
    #[error("an issuer in the chain is not a certificate authority")]
    IssuerNotAuthority,
    /// The certificate to be verified is an authority's.
    #[error("the certificate is a certificate authority's")]
    LeafIsAuthority,
    /// A critical extension that path validation does not know.
    #[error("a certificate of the chain has a critical extension that is not known")]
    UnknownCriticalExtension,
    /// An authority forbids so long a path below it.
    #[error("the chain is longer than one of its authorities allows")]
    PathLength,
    /// An authority forbids the names in a certificate below it.
    #[error("a name in the chain is one that an authority of the chain excludes")]
    NameConstraint,
    /// Every path is longer than six intermediate certificates.
    #[error("the chain has more than six intermediate certificates")]
    TooDeep,
    /// So many certificates have the same names that looking at all paths would take too long.
    #[error("too many certificates of the same name offer too many paths")]
    TooManyPaths,
    /// Path validation does without certificates of version 1, except as roots.
    #[error("a certificate of the chain has version 1")]
    Version1,
    /// The time lies before 1970.
    #[error("{0} is not a time at which certificates can be verified")]
    Time(Time),
    /// Any other finding of path validation.
    #[error("chain is not valid: {0}")]
    Invalid(String),
}

/// Checks that `leaf` leads through any of `intermediates` to one of `roots` at the time `when`.
///
/// A root that *is* the leaf is accepted, which is how a self-signed certificate is trusted. Roots
/// are themselves held to their validity, and every issuer to its basic constraints and key usage.
/// The purpose of the leaf is the caller's business: no extended key usage is asked for.
///
/// # Errors
/// See [`ChainError`].
pub fn verify(
    leaf: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    when: Time,
) -> Result<(), ChainError> {
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(ChainError::TooManyIntermediates(intermediates.len()));
    }
    if roots.contains(leaf) {
        return verify_pinned(leaf, when);
    }
    let seconds = u64::try_from(when.unix()).map_err(|_| ChainError::Time(when))?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let roots: Vec<_> = roots
        .iter()
        .filter(|root| root.may_issue() && root.validity().contains(when))
        .map(as_der)
        .collect();
    if roots.is_empty() {
        return Err(ChainError::NoRoot(when));
    }
    let anchors: Vec<TrustAnchor<'_>> = roots
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<_, _>>()?;
    // `webpki` looks at the basic constraints of intermediates, but not at their key usage.
    let intermediates: Vec<_> = intermediates
        .iter()
        .filter(|certificate| certificate.may_sign_certificates())
        .map(as_der)
        .collect();
    let leaf = as_der(leaf);
    EndEntityCert::try_from(&leaf)?.verify_for_usage(
        ALGORITHMS,
        &anchors,
        &intermediates,
        time,
        AnyUsage,
        None,
        None,
    )?;
    Ok(())
}

fn verify_pinned(leaf: &Certificate, when: Time) -> Result<(), ChainError> {
    let validity = leaf.validity();
    if when < validity.not_before {
        return Err(ChainError::NotYetValid(validity.not_before));
    }
    if when > validity.not_after {
        return Err(ChainError::Expired(validity.not_after));
    }
    match leaf.unrecognised_critical_extensions().next() {
        Some(_) => Err(ChainError::UnknownCriticalExtension),
        None => Ok(()),
    }
}

const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// `webpki` asks this of every certificate of the path, and a required purpose would have to stand
/// in the intermediates too, where it rarely does.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn as_der(certificate: &Certificate) -> CertificateDer<'_> {
    CertificateDer::from_slice(certificate.der())
}

impl From<webpki::Error> for ChainError {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::UnknownIssuer => Self::UnknownIssuer,
            Error::CertExpired { not_after, .. } => Self::Expired(from_unix(not_after)),
            Error::CertNotValidYet { not_before, .. } => Self::NotYetValid(from_unix(not_before)),
            Error::InvalidSignatureForPublicKey => Self::Signature,
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                Self::UnsupportedAlgorithm
            }
            Error::EndEntityUsedAsCa => Self::IssuerNotAuthority,
            Error::CaUsedAsEndEntity => Self::LeafIsAuthority,
            Error::UnsupportedCriticalExtension => Self::UnknownCriticalExtension,
            Error::PathLenConstraintViolated => Self::PathLength,
            Error::NameConstraintViolation => Self::NameConstraint,
            Error::MaximumPathDepthExceeded => Self::TooDeep,
            Error::MaximumPathBuildCallsExceeded
            | Error::MaximumSignatureChecksExceeded
            | Error::MaximumNameConstraintComparisonsExceeded => Self::TooManyPaths,
            Error::UnsupportedCertVersion => Self::Version1,
            other => Self::Invalid(other.to_string()),
        }
    }
}

fn from_unix(time: UnixTime) -> Time {
    Time::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
/// Certificates of any kind of key in the order in which TLS sends them: number `leaf`, then each issuer of the one before,
/// then what leads nowhere, as it stood. Nothing is verified.
#[must_use]
pub fn in_order(mut certificates: Vec<Vec<u8>>, leaf: usize) -> Vec<Vec<u8>> {
    if leaf >= certificates.len() {
        return certificates;
    }
    let mut ordered = vec![certificates.remove(leaf)];
    while let Some((issuer, subject)) = ordered.last().and_then(|last| names(last)) {
        let above = certificates.iter().position(|other| {
            issuer != subject && names(other).is_some_and(|(_, subject)| subject == issuer)
        });
        match above {
            Some(above) => ordered.push(certificates.remove(above)),
            None => break,
        }
    }
    ordered.append(&mut certificates);
    ordered
}

/// Issuer and subject.
fn names(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let inner = certificate.tbs_certificate();
    Some((
        inner.issuer().to_der().ok()?,
        inner.subject().to_der().ok()?,
    ))
}
