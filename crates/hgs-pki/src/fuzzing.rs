//! Bodies of fuzz targets: any octets may come, and what is accepted must survive a second round.

use crate::health::HealthStatement;
use crate::{Certificate, Thumbprint, Time, pkcs7};

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

/// [`HealthStatement::from_der`].
pub fn fuzz_health_statement(data: &[u8]) {
    if let Ok(statement) = HealthStatement::from_der(data) {
        let der = statement.to_der().expect("what was read can be written");
        assert_eq!(HealthStatement::from_der(&der), Ok(statement));
    }
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
