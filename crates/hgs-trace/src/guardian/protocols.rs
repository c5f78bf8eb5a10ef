//! The two published protocols: through the listeners that hosts use, and the synthetic roll within the service.

use super::facts::{Facts, Metadata, PublicFacts, State, SyntheticRoll};
use super::state::found;
use crate::{Check, Group, Judgement, Observed};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-P001",
            group: Group::Protocols,
            title: "attestation answers at the URL",
            fails_when: "`getinfo` of [MS-HGSA] gives no answer of the protocol within 10 s",
            remedy: "see that no proxy or other service answers at this URL, and the service's log",
            after: &["HGS-N006", "HGS-N007", "HGS-N009"],
            judge: attestation,
        },
        Check {
            id: "HGS-P002",
            group: Group::Protocols,
            title: "the published signers are ours",
            fails_when: "`signingCertificates` gives no list within 10 s, or one without the signer that signs now",
            remedy: "see that the URL leads to this guardian",
            after: &["HGS-P001"],
            judge: signing_certificates,
        },
        Check {
            id: "HGS-P003",
            group: Group::Protocols,
            title: "the metadata verifies and is ours",
            fails_when: "the document's signatures do not hold, another certificate than the primary for communications signed it, or it names another pair than the primary",
            remedy: "see that the URL leads to this guardian; give owners nothing that they got from there meanwhile",
            after: &["HGS-P001", "HGS-K004", "HGS-C001"],
            judge: metadata,
        },
        Check {
            id: "HGS-P004",
            group: Group::Protocols,
            title: "a synthetic host has its keys released",
            fails_when: "the service refuses its own synthetic host or does not decide within a minute, or the keys in its answer can't be opened",
            remedy: "see the service's log; hosts are refused as this one was",
            after: &[
                "HGS-S003", "HGS-S004", "HGS-C001", "HGS-K003", "HGS-K004", "HGS-A002", "HGS-D006",
            ],
            judge: synthetic_roll,
        },
        Check {
            id: "HGS-P005",
            group: Group::Protocols,
            title: "a tampered protector is refused",
            fails_when: "the same request with one octet of its protector changed is answered with anything but the refusal of a protector",
            remedy: "stop the service and report this: it is a fault of the program",
            after: &["HGS-P004"],
            judge: tampered_roll,
        },
        Check {
            id: "HGS-P006",
            group: Group::Protocols,
            title: "key protection answers at the URL",
            fails_when: "a request for keys without a health certificate, as large as real ones are, is not refused with HealthCertificateException within 10 s",
            remedy: "see that every proxy on the way passes POST requests of 256 KiB on unchanged, and the service's log",
            after: &["HGS-P001", "HGS-D006"],
            judge: refusal,
        },
    ]
}

/// Judges each address separately. A service that could not be asked does not work.
fn each(facts: &Facts, judge: impl Fn(&PublicFacts, &str) -> Option<Judgement>) -> Vec<Judgement> {
    let judge = |public: &PublicFacts| match (&public.reach.url, public.reach.is_open()) {
        (url, true) => judge(public, url),
        (url, false) => Some(Judgement::fail(url, "it could not be asked")),
    };
    facts.public.iter().filter_map(judge).collect()
}

fn attestation(facts: &Facts) -> Vec<Judgement> {
    each(facts, |public, url| {
        let mode = public.attestation_mode.as_ref()?;
        let seen = mode.as_deref().unwrap_or_default();
        Some(found(url, mode, &format!("hosts attest by {seen}")))
    })
}

fn signing_certificates(facts: &Facts) -> Vec<Judgement> {
    let active = facts.state().and_then(|state| state.active_signer.as_ref());
    each(facts, |public, url| {
        let published = match public.signing_certificates.as_ref()? {
            Ok(published) => published,
            failed @ Err(_) => return Some(found(url, failed, "")),
        };
        let seen = format!("{} are published", published.len());
        Some(match active {
            Some(active) if !published.contains(active) => {
                Judgement::fail(url, format!("{seen}, but not {active}, which signs"))
            }
            _ => Judgement::pass(url, seen),
        })
    })
}

fn metadata(facts: &Facts) -> Vec<Judgement> {
    each(facts, |public, url| {
        let metadata = match public.metadata.as_ref()? {
            Ok(metadata) => metadata,
            failed @ Err(_) => return Some(found(url, failed, "")),
        };
        let strange = facts.state().and_then(|state| strange(metadata, state));
        Some(match strange {
            Some(strange) => Judgement::fail(url, strange),
            None => Judgement::pass(url, format!("signing certificate {}", metadata.signing)),
        })
    })
}

/// A certificate in the metadata that is not this guardian's.
fn strange(metadata: &Metadata, state: &State) -> Option<String> {
    let named = [
        ("communications", &metadata.signer, "is signed by"),
        (
            "signing",
            &metadata.signing,
            "names the signing certificate",
        ),
        (
            "encryption",
            &metadata.encryption,
            "names the encryption certificate",
        ),
    ];
    named.into_iter().find_map(|(kind, found, does)| {
        let mut certificates = state.certificates.iter();
        let ours = certificates.find(|one| one.kind == kind && one.primary)?;
        (ours.thumbprint != *found)
            .then(|| format!("it {does} {found}; the primary is {}", ours.thumbprint))
    })
}

/// What the synthetic roll is called in findings.
const SYNTHETIC: &str = "synthetic roll";

fn synthetic_roll(facts: &Facts) -> Vec<Judgement> {
    let seen = "keys were released, and open what they should";
    let judge = |roll: &SyntheticRoll| found(SYNTHETIC, &roll.released, seen);
    facts.synthetic_roll.iter().map(judge).collect()
}

/// The codes of the protocol profile, section 6, by which a tampered protector may be refused.
const TAMPERED: &[&str] = &["InvalidProtectorException", "InvalidWrappingException"];

fn tampered_roll(facts: &Facts) -> Vec<Judgement> {
    let judge = |roll: &SyntheticRoll| refused(SYNTHETIC, &roll.tampered, TAMPERED);
    facts.synthetic_roll.iter().map(judge).collect()
}

fn refusal(facts: &Facts) -> Vec<Judgement> {
    each(facts, |public, url| {
        let expected = &["HealthCertificateException"];
        Some(refused(url, public.refusal.as_ref()?, expected))
    })
}

/// Passes when a refusal has one of the `expected` codes.
fn refused(target: &str, code: &Observed<String>, expected: &[&str]) -> Judgement {
    match code {
        Ok(code) if expected.contains(&&**code) => Judgement::pass(target, code),
        Ok(code) => Judgement::fail(target, format!("it was refused, but as {code}")),
        failed @ Err(_) => found(target, failed, ""),
    }
}
