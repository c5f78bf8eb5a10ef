//! Paths from a certificate to configured roots, found and checked by `rustls-webpki`.

use std::cell::Cell;
use std::ptr;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, VerifiedPath,
    anchor_from_trusted_cert, aws_lc_rs,
};

use crate::certificate::CertificateNames;
use crate::name_constraints::{NameConstraints, NameViolation, Role};
use crate::{Certificate, NameForm, Time};

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
    /// An authority constrains names of a form that can't be compared, and a certificate below it has one.
    #[error("an authority of the chain constrains names of the form {0}, which can't be checked")]
    UnsupportedNameConstraint(NameForm),
    /// An intermediate certificate constrains names of a form that is compared for roots only.
    #[error(
        "an intermediate certificate constrains names of the form {0}, which is checked for roots \
         only: configure that intermediate certificate as a root"
    )]
    IntermediateNameConstraint(NameForm),
    /// The names in a certificate, or the constraints of an authority, can't be read.
    #[error("the names that an authority of the chain constrains can't be read")]
    MalformedNames,
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
    let mut constrained_roots = ConstrainedRoots::default();
    for root in &roots {
        constrained_roots.add(anchor_from_trusted_cert(root)?)?;
    }
    // `webpki` looks at the basic constraints of intermediates, but not at their key usage.
    let intermediates: Vec<_> = intermediates
        .iter()
        .filter(|certificate| certificate.may_sign_certificates())
        .map(as_der)
        .collect();
    constrained_roots.verify(&as_der(leaf), &intermediates, time, ALGORITHMS, AnyUsage)
}

/// Roots over any kind of key, and the name constraints of each.
#[derive(Debug, Default)]
pub struct ConstrainedRoots<'a> {
    anchors: Vec<TrustAnchor<'a>>,
    /// In the order of the anchors.
    constraints: Vec<NameConstraints>,
}

impl<'a> ConstrainedRoots<'a> {
    /// Adds a root.
    ///
    /// # Errors
    /// [`ChainError::MalformedNames`] if its name constraints can't be read.
    pub fn add(&mut self, mut anchor: TrustAnchor<'a>) -> Result<(), ChainError> {
        let constraints = NameConstraints::take_from(&mut anchor)?;
        self.anchors.push(anchor);
        self.constraints.push(constraints);
        Ok(())
    }

    /// The roots without the constraints that `webpki` does not compare: it would refuse all names that they are about.
    #[must_use]
    pub fn anchors(&self) -> &[TrustAnchor<'a>] {
        &self.anchors
    }

    /// Whether [`Self::anchors`] lack constraints, so that a path to them has to be checked here.
    #[must_use]
    pub fn anchors_lack_constraints(&self) -> bool {
        self.constraints.iter().any(|one| one.form().is_some())
    }

    /// Checks that the certificate of a TLS server leads to a root through `intermediates`, within the name constraints of
    /// that root.
    pub fn verify_tls_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        time: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), ChainError> {
        let usage = KeyUsage::server_auth();
        self.verify(leaf, intermediates, time, algorithms, usage)
    }

    /// Checks that `leaf` leads to a root through `intermediates`, and that all names on this path are within the
    /// constraints of the root.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        time: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        usage: impl ExtendedKeyUsageValidator,
    ) -> Result<(), ChainError> {
        let violation = Cell::new(None);
        let check_names = |path: &VerifiedPath<'_>| {
            self.check_names(path).map_err(|found| {
                violation.set(Some(found));
                webpki::Error::NameConstraintViolation
            })
        };
        let leaf = EndEntityCert::try_from(leaf)?;
        let found = leaf.verify_for_usage(
            algorithms,
            &self.anchors,
            intermediates,
            time,
            usage,
            None,
            Some(&check_names),
        );
        match found {
            Ok(_) => Ok(()),
            Err(webpki::Error::NameConstraintViolation) => Err(match violation.get() {
                Some(found) => found.into(),
                None => refused_by_webpki(intermediates),
            }),
            Err(error) => Err(error.into()),
        }
    }

    fn check_names(&self, path: &VerifiedPath<'_>) -> Result<(), NameViolation> {
        let mut anchors = self.anchors.iter().zip(&self.constraints);
        let Some((_, constraints)) = anchors.find(|(anchor, _)| ptr::eq(*anchor, path.anchor()))
        else {
            return Err(NameViolation::Malformed);
        };
        constraints.check(&path.end_entity().der(), Role::EndEntity)?;
        path.intermediate_certificates()
            .try_for_each(|issuer| constraints.check(&issuer.der(), Role::Intermediate))
    }
}

/// Why `webpki` refused a name itself.
fn refused_by_webpki(intermediates: &[CertificateDer<'_>]) -> ChainError {
    let form = intermediates.iter().find_map(|certificate| {
        let mut issuer = anchor_from_trusted_cert(certificate).ok()?;
        NameConstraints::take_from(&mut issuer).ok()?.form()
    });
    form.map_or(
        ChainError::NameConstraint,
        ChainError::IntermediateNameConstraint,
    )
}

impl From<NameViolation> for ChainError {
    fn from(violation: NameViolation) -> Self {
        match violation {
            NameViolation::Forbidden => Self::NameConstraint,
            NameViolation::Unsupported(form) => Self::UnsupportedNameConstraint(form),
            NameViolation::Malformed => Self::MalformedNames,
            NameViolation::TooManyComparisons => Self::TooManyPaths,
        }
    }
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

impl ChainError {
    /// The finding of path validation that a TLS library passes on as `error`, if it is one.
    #[must_use]
    pub fn find(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let found = error.downcast_ref::<webpki::Error>();
        found
            .map(|found| found.clone().into())
            .or_else(|| error.downcast_ref().cloned())
    }
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
    while let Some(Ok(last)) = ordered.last().map(|der| CertificateNames::from_der(der)) {
        let issuer = certificates.iter().position(|other| {
            last.issuer != last.subject
                && CertificateNames::from_der(other).is_ok_and(|other| other.subject == last.issuer)
        });
        match issuer {
            Some(issuer) => ordered.push(certificates.remove(issuer)),
            None => break,
        }
    }
    ordered.append(&mut certificates);
    ordered
}
