//! Private keys: each does a trial of the work that the service gives it.

use super::certificates::{in_use, target};
use super::facts::{Facts, KeyTest, Signer};
use super::state::found;
use crate::{Check, Group, Judgement, Observed};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-K001",
            group: Group::Keys,
            title: "this node has the private key",
            fails_when: "the key of an enabled certificate is neither sealed in the state nor in a place that this node can ask",
            remedy: "make the key available on this node, or disable the certificate",
            after: &["HGS-D004"],
            judge: |facts| judged(facts, |work| Some(&work.held), "there is a place for it"),
        },
        Check {
            id: "HGS-K002",
            group: Group::Keys,
            title: "the private key is that of the certificate",
            fails_when: "the place holds another key than the certificate names",
            remedy: "correct the key's URI, or add the certificate that belongs to the key",
            after: &["HGS-K001", "HGS-T008"],
            judge: belonging,
        },
        Check {
            id: "HGS-K003",
            group: Group::Keys,
            title: "the private key decrypts",
            fails_when: "it does not decrypt what was just encrypted to the certificate",
            remedy: "see the key's place and the service's log; protectors for this certificate can't be opened meanwhile",
            after: &[
                "HGS-K002", "HGS-T001", "HGS-T002", "HGS-T003", "HGS-T004", "HGS-T005", "HGS-T006",
                "HGS-T007", "HGS-T008", "HGS-T009", "HGS-T011",
            ],
            judge: |facts| {
                judged(
                    facts,
                    |work| work.decrypts.as_ref(),
                    "a fresh encryption came back",
                )
            },
        },
        Check {
            id: "HGS-K004",
            group: Group::Keys,
            title: "the private key signs",
            fails_when: "it makes no signature, or one that the certificate does not verify",
            remedy: "see the key's place and the service's log; nothing can be signed with this certificate meanwhile",
            after: &[
                "HGS-K002", "HGS-T001", "HGS-T002", "HGS-T003", "HGS-T004", "HGS-T005", "HGS-T006",
                "HGS-T007", "HGS-T008", "HGS-T009", "HGS-T011",
            ],
            judge: |facts| {
                judged(
                    facts,
                    |work| work.signs.as_ref(),
                    "a fresh signature verifies",
                )
            },
        },
    ]
}

fn judged(
    facts: &Facts,
    which: fn(&KeyTest) -> Option<&Observed<()>>,
    seen: &str,
) -> Vec<Judgement> {
    let judge = |(target, work): (String, &KeyTest)| Some(found(&target, which(work)?, seen));
    at_work(facts).filter_map(judge).collect()
}

fn belonging(facts: &Facts) -> Vec<Judgement> {
    let judge = |(target, work): (String, &KeyTest)| {
        Some(match work.belongs? {
            true => Judgement::pass(target, "their public keys are the same"),
            false => Judgement::fail(target, "the place holds another key"),
        })
    };
    at_work(facts).filter_map(judge).collect()
}

/// Every key that is used, with the name of its certificate.
pub(super) fn at_work(facts: &Facts) -> impl Iterator<Item = (String, &KeyTest)> {
    let certificates = in_use(facts)
        .filter_map(|certificate| Some((target(certificate), certificate.work.as_ref()?)));
    let signers = facts
        .state()
        .into_iter()
        .flat_map(|state| &state.signers)
        .filter_map(|signer| Some((signer_target(signer), signer.work.as_ref()?)));
    certificates.chain(signers)
}

/// How a signer of health certificates is called in findings.
pub(super) fn signer_target(signer: &Signer) -> String {
    format!("attestation-signer {}", signer.thumbprint)
}
