//! Public things in the forms in which people have them.

use hgs_admin::AdminError;
use hgs_attest::platform_identity::PlatformIdentity;
use hgs_crypto::rsa::PublicKey;
use hgs_custody::Bundle;
use hgs_pki::{Certificate, Time};
use hgs_tcg::tpm::EndorsementKey;

/// A time as people and programs write it. A fraction of a second is left away: programs write one without being asked.
pub(super) fn time(text: &str) -> Result<Time, AdminError> {
    Time::from_option(text).map_err(AdminError::invalid)
}

/// A certificate as people have it: in PEM or PKCS#7, or in the Base64 of its DER.
pub(super) fn certificate(text: &str) -> Result<Certificate, AdminError> {
    let certificate = Bundle::read(text.as_bytes(), None).and_then(|bundle| bundle.certificate());
    certificate.map_err(|error| {
        AdminError::invalid(format_args!("certificate: {error}"))
            .with_remedy("give a certificate over an RSA key of 2048 bits or more, in PEM or DER")
    })
}

/// A public key as people have it: alone or in a certificate, in PEM or in the Base64 of its DER.
pub(super) fn host_key(text: &str) -> Result<PublicKey, AdminError> {
    let key = Bundle::read(text.as_bytes(), None).and_then(|bundle| bundle.public_key());
    key.map_err(|error| {
        AdminError::invalid(format_args!("host key: {error}"))
            .with_remedy("export it on the host with `guarded-host host-key export`")
    })
}

/// The platform identity of a host with a TPM, and the endorsement key in it.
pub(super) fn platform_identity(
    text: &str,
) -> Result<(PlatformIdentity, EndorsementKey), AdminError> {
    let remedy = "export it on the host with `guarded-host identity export`";
    let identity = PlatformIdentity::from_json(text.as_bytes())
        .map_err(|error| AdminError::invalid(error).with_remedy(remedy))?;
    let key = EndorsementKey::parse(identity.endorsement_public()).map_err(|error| {
        AdminError::invalid(format_args!("endorsement key: {error}")).with_remedy(remedy)
    })?;
    Ok((identity, key))
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
            let _ = platform_identity(&text);
            let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
            for error in [host_key(&pem).unwrap_err(), certificate(&text).unwrap_err(), certificate(&pem).unwrap_err()] {
                prop_assert_eq!(error.code, ErrorCode::InvalidRequest);
            }
        }
    }
}
