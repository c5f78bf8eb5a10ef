//! PKCS#11: from the module to the key, one check for each stage that can be the cause.

use super::certificates::in_use;
use super::facts::{Attributes, Certificate, Facts, Sessions, Token};
use super::keys::at_work;
use super::state::found;
use crate::{Check, Group, Judgement, Observed, PathKind};

pub(super) fn checks() -> Vec<Check<Facts>> {
    let mut checks = tokens();
    checks.extend(keys());
    checks
}

fn tokens() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-T001",
            group: Group::Tokens,
            title: "a module is configured for the token",
            fails_when: "no [[pkcs11.module]] is configured, or not the one that the key's URI names",
            remedy: "name the module under [[pkcs11.module]] in the configuration",
            after: &["HGS-D004"],
            judge: |facts| {
                each(facts, |token| {
                    Some((token.configured.clone(), String::new()))
                })
            },
        },
        Check {
            id: "HGS-T002",
            group: Group::Tokens,
            title: "the module works",
            fails_when: "the shared object can't be loaded, does not start, or does not come back",
            remedy: "check the path, the module's own configuration, and that the service's user may read both",
            after: &["HGS-T001"],
            judge: |facts| each(facts, |token| stage(token.module.as_ref())),
        },
        Check {
            id: "HGS-T003",
            group: Group::Tokens,
            title: "the token is there",
            fails_when: "no slot holds the token, several do, or it was lost at work",
            remedy: "check the label, that the device is connected, and that the service's user may open it",
            after: &["HGS-T002"],
            judge: |facts| each(facts, |token| stage(token.token.as_ref())),
        },
        Check {
            id: "HGS-T004",
            group: Group::Tokens,
            title: "only its owner can read the file of the PIN",
            fails_when: "it is absent, a link, belongs to another user, or others may read it",
            remedy: "give it to the service's user, with mode 0600",
            after: &["HGS-T001"],
            judge: pin_file,
        },
        Check {
            id: "HGS-T005",
            group: Group::Tokens,
            title: "the PIN can be read",
            fails_when: "no source of the PIN is configured, or the service's user can't read it",
            remedy: "add pin-source to the key's URI, or pin_source to [pkcs11]",
            after: &["HGS-T004", "HGS-T003"],
            judge: |facts| each(facts, |token| stage(token.pin.as_ref())),
        },
        Check {
            id: "HGS-T006",
            group: Group::Tokens,
            title: "the token takes the PIN",
            fails_when: "the PIN is wrong or locked; it is tried again when its source changes",
            remedy: "correct the PIN in its source; many tokens lock themselves after a few wrong ones",
            after: &["HGS-T005"],
            judge: |facts| {
                each(facts, |token| {
                    Some((token.login.clone()?, "it did".to_owned()))
                })
            },
        },
        Check {
            id: "HGS-T007",
            group: Group::Tokens,
            title: "the token has sessions free",
            fails_when: "it opens none; one with hardly any left warns",
            remedy: "configure fewer sessions, or close those of other programs",
            after: &["HGS-T006"],
            judge: sessions,
        },
    ]
}

fn keys() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-T008",
            group: Group::Tokens,
            title: "the token holds the certificate's key",
            fails_when: "no private RSA key matches the URI, several do, or it is another than the certificate's",
            remedy: "correct the key's URI: `pkcs11-tool --list-objects` shows what the token holds",
            after: &["HGS-T007", "HGS-T006", "HGS-T003"],
            judge: |facts| key(facts, held),
        },
        Check {
            id: "HGS-T009",
            group: Group::Tokens,
            title: "the token lets the key do its work",
            fails_when: "the key has no CKA_DECRYPT though it is to decrypt, or no CKA_SIGN though it is to sign",
            remedy: "generate or import the key again with the attribute; most tokens do not let it be added",
            after: &["HGS-T008"],
            judge: |facts| key(facts, allowed),
        },
        Check {
            id: "HGS-T010",
            group: Group::Tokens,
            title: "the key can't be taken out of the token",
            fails_when: "never; a key that is extractable or not sensitive warns",
            remedy: "generate the next pair with `hgs certificate new`, whose keys can't be taken out",
            after: &["HGS-T008"],
            judge: |facts| key(facts, stays),
        },
        Check {
            id: "HGS-T011",
            group: Group::Tokens,
            title: "the token has the mechanisms",
            fails_when: "it neither decrypts OAEP nor raw RSA with an encryption key, or makes no PKCS #1 signatures with a signing key",
            remedy: "see the token's documentation: its policy may have to allow CKM_RSA_PKCS_OAEP, CKM_RSA_X_509 or CKM_RSA_PKCS",
            after: &["HGS-T009"],
            judge: mechanisms,
        },
    ]
}

/// Judges each token once, however many keys are in it.
fn each(facts: &Facts, stage: impl Fn(&Token) -> Option<(Observed<()>, String)>) -> Vec<Judgement> {
    let mut judgements: Vec<Judgement> = Vec::new();
    for token in at_work(facts).flat_map(|(_, work)| &work.tokens) {
        let Some((outcome, seen)) = stage(token) else {
            continue;
        };
        let judgement = found(&token.name, &outcome, &seen);
        if !judgements.contains(&judgement) {
            judgements.push(judgement);
        }
    }
    judgements
}

fn stage(stage: Option<&Observed<String>>) -> Option<(Observed<()>, String)> {
    let stage = stage?;
    let seen = stage.as_deref().unwrap_or_default().to_owned();
    Some((stage.clone().map(drop), seen))
}

fn pin_file(facts: &Facts) -> Vec<Judgement> {
    let user = facts.local.as_ref().map(|local| local.user);
    each(facts, |token| {
        let place = token.pin_file.as_ref()?;
        let outcome = place.not_private(PathKind::File, user?);
        Some((outcome.map_or(Ok(()), Err), place.shown()))
    })
}

/// Sessions below which a token is about to refuse some.
const FEW: u64 = 4;

fn sessions(facts: &Facts) -> Vec<Judgement> {
    let shown = |sessions: &Sessions| {
        let limit = sessions.maximum.map_or_else(
            || "no limit that it tells".to_owned(),
            |maximum| format!("{maximum} allowed"),
        );
        format!("{} open here, {limit}", sessions.open)
    };
    let mut judgements = each(facts, |token| {
        let sessions = token.sessions.as_ref()?;
        let seen = sessions.as_ref().map(shown).unwrap_or_default();
        Some((sessions.clone().map(drop), seen))
    });
    let tokens = at_work(facts).flat_map(|(_, work)| &work.tokens);
    let few_left = tokens.filter(|token| {
        let sessions = token.sessions.as_ref().and_then(|seen| seen.as_ref().ok());
        let left = sessions.and_then(|seen| seen.maximum.zip(seen.in_use));
        left.is_some_and(|(maximum, in_use)| maximum.saturating_sub(in_use) < FEW)
    });
    for token in few_left {
        let scarce = judgements.iter_mut().filter(|one| one.target == token.name);
        scarce.for_each(|one| one.verdict = crate::Verdict::Warning);
    }
    judgements
}

/// Judges the attributes of the key of each certificate in its token.
fn key(
    facts: &Facts,
    judge: fn(&str, bool, &Observed<Attributes>) -> Option<Judgement>,
) -> Vec<Judgement> {
    ways(facts)
        .filter_map(|(target, decrypts, token)| judge(&target, decrypts, token.key.as_ref()?))
        .collect()
}

fn held(target: &str, _: bool, key: &Observed<Attributes>) -> Option<Judgement> {
    Some(match key {
        Ok(key) if !key.belongs => {
            Judgement::fail(target, "the token's key is not the certificate's")
        }
        _ => found(target, key, "its public half is the certificate's"),
    })
}

fn allowed(target: &str, decrypts: bool, key: &Observed<Attributes>) -> Option<Judgement> {
    let key = key.as_ref().ok()?;
    let (attribute, allowed) = match decrypts {
        true => ("CKA_DECRYPT", key.decrypts),
        false => ("CKA_SIGN", key.signs),
    };
    Some(match allowed {
        true => Judgement::pass(target, format!("{attribute} is set")),
        false => Judgement::fail(target, format!("{attribute} is not set")),
    })
}

fn stays(target: &str, _: bool, key: &Observed<Attributes>) -> Option<Judgement> {
    let key = key.as_ref().ok()?;
    let seen = format!(
        "CKA_SENSITIVE is {}, CKA_EXTRACTABLE is {}",
        key.sensitive, key.extractable
    );
    Some(match key.sensitive && !key.extractable {
        true => Judgement::pass(target, seen),
        false => Judgement::warning(target, seen),
    })
}

fn mechanisms(facts: &Facts) -> Vec<Judgement> {
    ways(facts)
        .filter_map(|(target, _, token)| {
            let mechanisms = token.mechanisms.as_ref()?;
            let seen = mechanisms.as_deref().unwrap_or_default();
            Some(found(&target, mechanisms, seen))
        })
        .collect()
}

/// Every way to a key in a token: what the key's certificate is called, whether it is to decrypt, and the way. With a
/// spare there are two, and each is called by its token too: one that fails is not the failure of the key.
fn ways(facts: &Facts) -> impl Iterator<Item = (String, bool, &Token)> {
    let encryption: Vec<String> = in_use(facts)
        .filter(|certificate: &&Certificate| certificate.kind == "encryption")
        .map(super::certificates::target)
        .collect();
    at_work(facts).flat_map(move |(target, work)| {
        let decrypts = encryption.contains(&target);
        let spare = work.tokens.len() > 1;
        work.tokens.iter().map(move |token| {
            let target = match spare {
                true => format!("{target} in {}", token.name),
                false => target.clone(),
            };
            (target, decrypts, token)
        })
    })
}
