//! Bodies of fuzz targets: any octets are allowed, and what is accepted must survive a second round.

use crate::endorsement::{EndorsementAuthority, EndorsementCertificate, EndorsementRoots};
use crate::health::{
    HealthCertificate, HealthKind, HealthStatement, TrustedSigner, TrustedSigners,
};
use crate::{Certificate, Seconds, Thumbprint, Time, pkcs7};

/// [`Certificate::from_der`].
pub fn fuzz_certificate(data: &[u8]) {
    let Ok(certificate) = Certificate::from_der(data) else {
        return;
    };
    assert_eq!(certificate.der(), data);
    assert_eq!(
        Certificate::from_pem(&certificate.to_pem()),
        Ok(certificate.clone())
    );
    let _ = certificate.verify_issued_by(&certificate);
}

/// [`pkcs7::parse`].
pub fn fuzz_pkcs7(data: &[u8]) {
    let Ok(mut certificates) = pkcs7::parse(data) else {
        return;
    };
    let again = pkcs7::parse(&pkcs7::certificates_only(&certificates));
    certificates.sort_by(|a, b| a.der().cmp(b.der()));
    certificates.dedup();
    assert_eq!(again, Ok(certificates));
}

/// [`Certificate::list_from_pem`], and the short texts of this crate.
pub fn fuzz_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = Certificate::list_from_pem(text);
    let _ = text.parse::<Thumbprint>();
    if let Ok(time) = text.parse::<Time>() {
        assert_eq!(time.to_string().parse(), Ok(time));
    }
}

/// [`HealthStatement::from_der`].
pub fn fuzz_health_statement(data: &[u8]) {
    if let Ok(statement) = HealthStatement::from_der(data) {
        assert_eq!(statement.to_der().as_deref(), Ok(data));
    }
}

/// [`HealthCertificate::verify`], and its checks after that of the signature.
pub fn fuzz_health_certificate(data: &[u8]) {
    let Ok(certificate) = HealthCertificate::from_der(data) else {
        return;
    };
    let own = certificate.unverified().clone();
    let when = own.validity().not_before;
    let skew = Seconds::from_days(1);
    for kind in [HealthKind::Encryption, HealthKind::Signing] {
        crate::health::fuzz_checks_behind_the_signature(&own, kind, when, skew);
        for signers in [vec![], vec![TrustedSigner::own(own.clone())]] {
            let signers = TrustedSigners::new(signers);
            let verified = certificate.clone().verify(&signers, kind, when, skew);
            assert!(verified.is_err(), "no signer issued it");
        }
    }
}

/// [`EndorsementCertificate::from_octets`], and [`EndorsementAuthority::list_from_octets`] with a search for paths among what was read.
///
/// # Panics
///
/// If a certificate is not read again from its DER, or if it is an authority's as well.
pub fn fuzz_endorsement(data: &[u8]) {
    if let Ok(authorities) = EndorsementAuthority::list_from_octets(data) {
        let trusted = EndorsementRoots::new(authorities.first().cloned(), authorities.clone());
        for authority in &authorities {
            let _ = trusted.path_of_authority(authority);
        }
    }
    if let Ok(certificate) = EndorsementCertificate::from_octets(data) {
        let again = EndorsementCertificate::from_octets(certificate.der());
        assert_eq!(again.as_ref(), Ok(&certificate));
        assert!(EndorsementAuthority::from_der(certificate.der()).is_err());
    }
}
