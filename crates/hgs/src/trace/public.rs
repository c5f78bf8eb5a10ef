//! What anyone can see of a guardian at one of its URLs.

use std::str::FromStr;

use hgs_client::configuration::Endpoints;
use hgs_client::probe::Probe;
use hgs_protector::metadata::Metadata;
use hgs_trace::guardian::{self, PublicFacts};

/// What the URLs of both services begin with, such as `https://hgs.example`.
#[derive(Debug, Clone)]
pub(super) struct Base {
    shown: String,
    endpoints: Endpoints,
}

impl FromStr for Base {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self {
            endpoints: Endpoints::below(text).map_err(|error| error.to_string())?,
            shown: text.trim_end_matches('/').to_owned(),
        })
    }
}

/// Looks at both services below `base`, as far as one gets.
pub(super) async fn look_at(probe: &Probe, base: &Base) -> PublicFacts {
    let Endpoints {
        attestation,
        key_protection,
    } = &base.endpoints;
    let (attestation, key_protection) = (attestation.first(), key_protection.first());
    let mut reach = probe.reach_attestation(attestation).await;
    reach.url.clone_from(&base.shown);
    let mut seen = PublicFacts {
        reach,
        attestation_mode: None,
        signing_certificates: None,
        metadata: None,
        refusal: None,
    };
    if !seen.reach.is_open() {
        return seen;
    }
    seen.attestation_mode = Some(probe.attestation_mode(attestation).await);
    seen.signing_certificates = Some(probe.signing_certificates(attestation).await);
    let metadata = probe.metadata(key_protection).await;
    seen.metadata = Some(metadata.map(|metadata| thumbprints(&metadata)));
    seen.refusal = Some(probe.refusal(key_protection).await);
    seen
}

fn thumbprints(metadata: &Metadata) -> guardian::Metadata {
    let guardian = metadata.unverified();
    guardian::Metadata {
        signing: guardian.signing_certificate().thumbprint().to_string(),
        encryption: guardian.encryption_certificate().thumbprint().to_string(),
        signer: metadata.signer().thumbprint().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_what_both_urls_begin_with() {
        let base: Base = "https://hgs.example:8443/".parse().unwrap();
        assert_eq!(base.shown, "https://hgs.example:8443");
        let url = base.endpoints.attestation.to_string();
        assert_eq!(url, "https://hgs.example:8443/Attestation");
        for text in ["hgs.example", "ftp://hgs.example", "https://a b"] {
            assert!(text.parse::<Base>().is_err(), "{text}");
        }
    }
}
