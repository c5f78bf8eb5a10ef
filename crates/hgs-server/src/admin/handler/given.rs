//! Public things in the forms in which people have them.

use hgs_admin::AdminError;
use hgs_crypto::base64;
use hgs_crypto::rsa::PublicKey;
use hgs_pki::Certificate;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

/// A certificate as people have it: in PEM, or in the Base64 of its DER.
pub(super) fn certificate(text: &str) -> Result<Certificate, AdminError> {
    let unacceptable = |error: &dyn std::fmt::Display| {
        AdminError::invalid(format_args!("certificate: {error}"))
            .with_remedy("give a certificate over an RSA key of 2048 bits or more, in PEM or DER")
    };
    if text.contains("-----BEGIN ") {
        return Certificate::from_pem(text).map_err(|error| unacceptable(&error));
    }
    let compact: String = text.split_ascii_whitespace().collect();
    let der = base64::decode(&compact).map_err(|_| unacceptable(&"neither PEM nor Base64"))?;
    Certificate::from_der(&der).map_err(|error| unacceptable(&error))
}

/// A public key as people have it: alone or in a certificate, in PEM or in the Base64 of its DER.
pub(super) fn host_key(text: &str) -> Result<PublicKey, AdminError> {
    let not_a_key = || {
        AdminError::invalid("the host key is neither a public key nor a certificate")
            .with_remedy("export it on the host with `guarded-host host-key export`")
    };
    let unacceptable = |error| AdminError::invalid(format_args!("host key: {error}"));
    if text.contains("-----BEGIN CERTIFICATE-----") {
        let certificate = Certificate::from_pem(text);
        let certificate =
            certificate.map_err(|error| AdminError::invalid(format_args!("host key: {error}")))?;
        return Ok(certificate.public_key().clone());
    }
    let der = if text.contains("-----BEGIN ") {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
        key.map_err(|_| not_a_key())?.to_vec()
    } else {
        let compact: String = text.split_ascii_whitespace().collect();
        base64::decode(&compact).map_err(|_| not_a_key())?
    };
    match Certificate::from_der(&der) {
        Ok(certificate) => Ok(certificate.public_key().clone()),
        Err(_) => PublicKey::from_spki_der(&der).map_err(unacceptable),
    }
}

#[cfg(test)]
mod tests {
    use hgs_admin::ErrorCode;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_host_key_or_refused(text in ".*", label in "(PUBLIC KEY|CERTIFICATE|X)") {
            let _ = host_key(&text);
            let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
            for error in [host_key(&pem).unwrap_err(), certificate(&text).unwrap_err(), certificate(&pem).unwrap_err()] {
                prop_assert_eq!(error.code, ErrorCode::InvalidRequest);
            }
        }
    }
}
