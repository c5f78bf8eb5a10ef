//! What a token says of a host: the claims of EAR (draft-ietf-rats-ear, by the names that Trustee's tokens have) with those of
//! AR4SI (draft-ietf-rats-ar4si) in its vector.
//!
//! Each claim says what was measured and no more. What was not is 0, which AR4SI calls *none*: no statement.

use std::sync::Arc;

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::{base64, hex};
use hgs_pki::{Seconds, Time};
use serde_json::{Map, Value, json};

use super::prove::ProvedRequest;
use super::refusal::TokenRefusal;
use super::{Issuer, signature};
use crate::policy::{PolicyName, PolicySet};

/// The profile of our tokens: the claims of EAR as Trustee has them, and those of section 14 of the protocol profile.
pub const PROFILE: &str = "tag:github.com,2026:openhgs/openhgs/health-token";

/// AR4SI: the instance is recognised, and not known to be compromised.
const TRUSTWORTHY_INSTANCE: i8 = 2;
/// AR4SI: only approved configurations.
const APPROVED_CONFIGURATION: i8 = 2;
/// AR4SI: only approved executables were loaded, at boot and since.
const APPROVED_RUNTIME: i8 = 2;
/// AR4SI: only approved executables were loaded at boot.
const APPROVED_BOOT: i8 = 3;

/// The tiers of AR4SI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// No statement.
    None,
    /// What was measured is as it should be.
    Affirming,
}

impl Tier {
    /// Its name in `ear.status`. Hosts of the other two tiers, warning and contraindicated, get no token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
        }
    }
}

/// Who appraised.
#[derive(Debug, Clone, Copy)]
pub struct Verifier<'a> {
    /// The issuer.
    pub issuer: &'a Issuer,
    /// The program and its version.
    pub build: &'a str,
    /// For how long tokens are valid, as far as the health certificate is.
    pub lifetime: Seconds,
}

/// What is known of a host in good standing.
#[derive(Debug, Clone)]
pub struct Appraisal<'a> {
    /// What administrators call it.
    pub host_name: &'a str,
    /// The group whose policies it is judged by, if not by those of all hosts.
    pub group: Option<&'a str>,
    /// What it has booted, in TPM mode.
    pub measured: Option<MeasuredBoot>,
}

/// What a host in TPM mode has passed.
#[derive(Debug, Clone)]
pub struct MeasuredBoot {
    /// When.
    pub attested: Time,
    /// What it was judged by, and still would be.
    pub policies: Arc<PolicySet>,
    /// The documents that its measurements were compared with.
    pub documents: Vec<String>,
    /// SHA-256 of the evidence that is kept of it.
    pub evidence: Option<Sha256Digest>,
}

/// What a token will say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims {
    pub(super) json: Value,
    pub(super) expires: Time,
}

impl Claims {
    /// The claims of a token for `request`, by a host that may have it.
    pub(super) fn new(
        request: &ProvedRequest,
        appraisal: &Appraisal<'_>,
        verifier: Verifier<'_>,
        now: Time,
    ) -> Result<Self, TokenRefusal> {
        let certificate = request.certificate().certificate();
        let ends = certificate.validity().not_after;
        let latest = request.made().checked_add(verifier.lifetime);
        let expires = latest.unwrap_or(Time::MAX).min(ends);
        if expires <= now {
            return Err(TokenRefusal::CertificateEnds(ends));
        }
        // The clock of the node that made the nonce may be ahead.
        let issued = request.made().min(now);
        let statement = request.certificate().statement();
        let json = json!({
            "eat_profile": PROFILE,
            "iss": verifier.issuer.as_str(),
            "sub": statement.host_id.to_string(),
            "aud": request.audience().as_str(),
            "iat": issued.unix(),
            "nbf": issued.unix(),
            "exp": expires.unix(),
            "jti": request.token_id(),
            "ear.verifier-id": {
                "developer": "https://github.com/openhgs/openhgs",
                "build": verifier.build,
            },
            "cnf": {"jkt": base64::encode_url(&signature::thumbprint(certificate.public_key()))},
            "submods": {"host": submodule(request, appraisal)},
        });
        Ok(Self { json, expires })
    }
}

fn submodule(request: &ProvedRequest, appraisal: &Appraisal<'_>) -> Value {
    let measured = appraisal.measured.as_ref();
    let tier = match measured {
        Some(measured) => measured.tier(),
        None => Tier::None,
    };
    let mut submodule = Map::new();
    submodule.insert("ear.status".to_owned(), tier.name().into());
    submodule.insert("ear.trustworthiness-vector".to_owned(), vector(measured));
    if let Some(measured) = measured {
        let policies = format!("sha-256:{}", hex::encode(measured.policies.digest()));
        submodule.insert("ear.appraisal-policy-id".to_owned(), policies.into());
    }
    let evidence = annotated_evidence(request, appraisal);
    submodule.insert("ear.veraison.annotated-evidence".to_owned(), evidence);
    submodule.into()
}

impl MeasuredBoot {
    fn has(&self, policy: PolicyName) -> bool {
        self.policies.is_enabled(policy)
    }

    /// Approved is a boot that was compared with a baseline.
    fn tier(&self) -> Tier {
        match self.has(PolicyName::SecureBootSettings) {
            true => Tier::Affirming,
            false => Tier::None,
        }
    }
}

/// The vector. `hardware` stays 0: an EK certificate vouches for the TPM, and nothing for the machine around it. So do `file-system`,
/// `runtime-opaque`, `storage-opaque` and `sourced-data`, of which a boot tells nothing.
fn vector(measured: Option<&MeasuredBoot>) -> Value {
    let (instance, configuration, executables) = match measured {
        // A key in a file: a copy of it can't be told from the host, and nothing is measured.
        None => (0, 0, 0),
        Some(measured) if measured.tier() == Tier::None => (TRUSTWORTHY_INSTANCE, 0, 0),
        Some(measured) => {
            let executables = match measured.has(PolicyName::CiPolicy) {
                true => APPROVED_RUNTIME,
                false => APPROVED_BOOT,
            };
            (TRUSTWORTHY_INSTANCE, APPROVED_CONFIGURATION, executables)
        }
    };
    json!({
        "instance-identity": instance,
        "configuration": configuration,
        "executables": executables,
        "file-system": 0,
        "hardware": 0,
        "runtime-opaque": 0,
        "storage-opaque": 0,
        "sourced-data": 0,
    })
}

fn annotated_evidence(request: &ProvedRequest, appraisal: &Appraisal<'_>) -> Value {
    let certificate = request.certificate();
    let mut evidence = json!({
        "mode": certificate.statement().mode.name(),
        "host-name": appraisal.host_name,
        "health-certificate": hex::encode(certificate.certificate().serial_number()),
    });
    if let Some(group) = appraisal.group {
        evidence["host-group"] = group.into();
    }
    if let Some(measured) = &appraisal.measured {
        let policies = PolicyName::ALL.into_iter();
        let policies = policies.filter(|policy| measured.has(*policy));
        evidence["attested"] = measured.attested.unix().into();
        evidence["policies"] = policies.map(PolicyName::name).collect();
        evidence["documents"] = measured.documents.clone().into();
        if let Some(digest) = &measured.evidence {
            evidence["evidence"] = format!("sha-256:{}", hex::encode(digest)).into();
        }
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Baseline, Documents, PolicySelection};

    /// A token claims what a policy has held, and nothing that no policy looked at.
    #[test]
    fn files_that_no_policy_looked_at_are_not_claimed_to_be_approved() {
        let baseline = hgs_testkit::block_of_page("baseline.md", "json");
        let baseline = Baseline::from_json(baseline.as_bytes()).unwrap();
        let documents = Documents {
            baselines: [("model-a".to_owned(), baseline)].into(),
            ..Documents::default()
        };
        let mut selection = PolicySelection::default();
        selection.set(PolicyName::CiPolicy, false).unwrap();
        let boot = MeasuredBoot {
            attested: Time::from_unix(1_800_000_000),
            policies: Arc::new(PolicySet::compile(&selection, &documents).unwrap()),
            documents: Vec::new(),
            evidence: None,
        };
        assert_eq!(boot.tier(), Tier::Affirming);
        assert_eq!(vector(Some(&boot))["executables"], APPROVED_BOOT);
    }
}
