//! What is asked of the guardian's certificates beside a strong RSA key, without which none is read at all. Nothing of
//! it is looked at when protectors are opened: certificates are containers of keys there. People who import a guardian
//! look at it.

use hgs_admin::types::{Finding, Severity};
use hgs_kps::{CertificateKind, Lineage};
use hgs_pki::{Certificate, KeyUsage, Time, ValidityStatus, profile};
use hgs_store::State;

/// What is to be said of `certificate` when it is added to `lineage` in `state`.
pub(crate) fn findings(
    kind: CertificateKind,
    certificate: &Certificate,
    lineage: &Lineage,
    state: &State,
    now: Time,
) -> Vec<Finding> {
    [
        key_usage(kind, certificate),
        extended_key_usage(certificate),
        authority(certificate),
        validity(certificate, now),
        shared_key(kind, certificate, state),
        self_issued(certificate),
        new_lineage(lineage, state),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The key usage that a certificate of this kind should have, if it lacks it.
pub(crate) fn lacking_key_usage(
    kind: CertificateKind,
    certificate: &Certificate,
) -> Option<&'static str> {
    let (needed, name) = match kind {
        CertificateKind::Encryption => (KeyUsage::DATA_ENCIPHERMENT, "dataEncipherment"),
        _ => (KeyUsage::DIGITAL_SIGNATURE, "digitalSignature"),
    };
    (!certificate.allows(needed)).then_some(name)
}

fn key_usage(kind: CertificateKind, certificate: &Certificate) -> Option<Finding> {
    let name = lacking_key_usage(kind, certificate)?;
    Some(warning(
        "key-usage",
        format!("its key usage lacks {name}, which a {kind} certificate should have"),
    ))
}

fn extended_key_usage(certificate: &Certificate) -> Option<Finding> {
    let purposes = certificate.extended_key_usage()?;
    let fits = purposes.contains(&profile::SERVER_AUTHENTICATION);
    (!fits).then(|| {
        warning(
            "extended-key-usage",
            "it has extended key usages, and server authentication is not among them".to_owned(),
        )
    })
}

fn authority(certificate: &Certificate) -> Option<Finding> {
    certificate.is_certificate_authority().then(|| {
        warning(
            "certificate-authority",
            "it may issue certificates; a guardian needs none that may".to_owned(),
        )
    })
}

fn validity(certificate: &Certificate, now: Time) -> Option<Finding> {
    let validity = certificate.validity();
    let (not_before, not_after) = (validity.not_before, validity.not_after);
    let (code, message) = match validity.status(now) {
        ValidityStatus::Expired => ("expired", format!("it expired at {not_after}")),
        ValidityStatus::NotYetValid => ("not-yet-valid", format!("it is valid from {not_before}")),
        ValidityStatus::ExpiresSoon => ("expires-soon", format!("it expires at {not_after}")),
        ValidityStatus::Valid => return None,
    };
    Some(warning(code, message))
}

fn shared_key(kind: CertificateKind, certificate: &Certificate, state: &State) -> Option<Finding> {
    let mut others = state.certificates();
    let other = others.find(|other| {
        other.kind != kind && other.certificate.public_key() == certificate.public_key()
    })?;
    Some(warning(
        "shared-key",
        format!(
            "its key is that of the {} certificate {}",
            other.kind,
            other.thumbprint()
        ),
    ))
}

fn self_issued(certificate: &Certificate) -> Option<Finding> {
    (certificate.subject() == certificate.issuer()).then(|| Finding {
        code: "self-signed".to_owned(),
        severity: Severity::Note,
        message: "it signs itself: owners need its thumbprint by another way than the network"
            .to_owned(),
    })
}

/// A tenant's name that was mistyped would be another tenant's.
fn new_lineage(lineage: &Lineage, state: &State) -> Option<Finding> {
    let known = state.certificates().any(|other| other.lineage == *lineage);
    (*lineage != Lineage::Fabric && !known).then(|| Finding {
        code: "new-lineage".to_owned(),
        severity: Severity::Note,
        message: format!("it is the first certificate of {lineage}"),
    })
}

fn warning(code: &str, message: String) -> Finding {
    Finding {
        code: code.to_owned(),
        severity: Severity::Warning,
        message,
    }
}

#[cfg(test)]
mod tests {
    use hgs_pki::issue::Template;
    use hgs_pki::{Seconds, Validity};
    use hgs_testkit::fixtures::{now, private_key, self_signed, ten_years};

    use super::*;

    fn codes(kind: CertificateKind, template: Template) -> Vec<String> {
        let certificate = self_signed(template, &private_key(0));
        let (state, lineage) = (State::default(), Lineage::Fabric);
        let found = findings(kind, &certificate, &lineage, &state, now());
        found.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn what_we_make_ourselves_is_as_it_should_be() {
        let signing = profile::guardian_signing("test", ten_years());
        assert_eq!(codes(CertificateKind::Signing, signing), ["self-signed"]);
        let encryption = profile::guardian_encryption("test", ten_years());
        assert_eq!(
            codes(CertificateKind::Encryption, encryption),
            ["self-signed"]
        );
        let communications = profile::communications(&["hgs.example"], ten_years()).unwrap();
        assert_eq!(
            codes(CertificateKind::Communications, communications),
            ["self-signed"]
        );
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named() {
        let signing = || profile::guardian_signing("test", ten_years());
        assert_eq!(
            codes(CertificateKind::Encryption, signing()),
            ["key-usage", "self-signed"]
        );
        let client = Template {
            extended_key_usage: vec![profile::CLIENT_AUTHENTICATION],
            certificate_authority: true,
            ..signing()
        };
        assert_eq!(
            codes(CertificateKind::Signing, client),
            ["extended-key-usage", "certificate-authority", "self-signed"]
        );
        let day = Seconds::from_days(1);
        let (earlier, later) = (
            now().checked_sub(day).unwrap(),
            now().checked_add(day).unwrap(),
        );
        for (not_before, not_after, code) in [
            (Time::from_unix(0), earlier, "expired"),
            (earlier, later, "expires-soon"),
            (later, Time::MAX, "not-yet-valid"),
        ] {
            let validity = Validity {
                not_before,
                not_after,
            };
            let template = profile::guardian_signing("test", validity);
            assert_eq!(
                codes(CertificateKind::Signing, template),
                [code, "self-signed"]
            );
        }
    }
}
