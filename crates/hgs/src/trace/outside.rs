//! What everybody sees of a guardian at one of its URLs.

use std::str::FromStr;

use hgs_client::configuration::Endpoints;
use hgs_client::probe::{Probe, Refusal};
use hgs_client::url::Url;
use hgs_protector::metadata::Metadata;
use hgs_server::admin::types::{Trial, TrialAnswer};
use hgs_server::admin::{Administration as _, Client};
use hgs_trace::guardian::{self, Outside};
use hgs_trace::{Found, Problem};

use super::collect::problem;

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

/// A roll that the guardian has made up, if it could, and who judges the answers.
#[derive(Clone, Copy)]
pub(super) struct Roll<'r> {
    pub(super) client: &'r Client,
    pub(super) trial: Result<&'r Trial, &'r Problem>,
}

/// Looks at both services below `base`, as far as one gets.
pub(super) async fn look_at(probe: &Probe, base: &Base, roll: Option<Roll<'_>>) -> Outside {
    let Endpoints {
        attestation,
        key_protection,
    } = &base.endpoints;
    let mut reach = probe.reach_attestation(attestation).await;
    reach.url.clone_from(&base.shown);
    let mut outside = Outside {
        reach,
        attestation_mode: None,
        signing_certificates: None,
        metadata: None,
        roll: None,
        tampered_roll: None,
    };
    if !outside.reach.is_open() {
        return outside;
    }
    outside.attestation_mode = Some(probe.attestation_mode(attestation).await);
    outside.signing_certificates = Some(probe.signing_certificates(attestation).await);
    let metadata = probe.metadata(key_protection).await;
    outside.metadata = Some(metadata.map(|metadata| thumbprints(&metadata)));
    match roll.map(|roll| (roll.client, roll.trial)) {
        None => {}
        Some((_, Err(problem))) => outside.roll = Some(Err(problem.clone())),
        Some((client, Ok(trial))) => {
            outside.roll = Some(good(probe, key_protection, client, trial).await);
            outside.tampered_roll = Some(bad(probe, key_protection, trial).await);
        }
    }
    outside
}

fn thumbprints(metadata: &Metadata) -> guardian::Metadata {
    let guardian = metadata.unverified();
    guardian::Metadata {
        signing: guardian.signing_certificate().thumbprint().to_string(),
        encryption: guardian.encryption_certificate().thumbprint().to_string(),
        signer: metadata.signer().thumbprint().to_string(),
    }
}

async fn good(probe: &Probe, url: &Url, client: &Client, trial: &Trial) -> Found<()> {
    let answer = probe.roll(url, &trial.request).await?;
    let body = String::from_utf8(answer).map_err(|error| Problem::of(&error))?;
    let verdict = client.judge_trial(&trial.id, &TrialAnswer { body });
    let verdict = verdict.map_err(|error| problem(&error))?;
    match (verdict.opens, verdict.problem) {
        (true, _) => Ok(()),
        (false, reason) => Err(Problem::new(reason.unwrap_or_default())),
    }
}

async fn bad(probe: &Probe, url: &Url, trial: &Trial) -> Found<String> {
    match probe.bad_roll(url, &trial.tampered_request).await {
        Refusal::Refused(code) => Ok(code),
        Refusal::Released => Err(Problem::new("it was answered with keys")),
        Refusal::NoAnswer(problem) => Err(problem),
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
