//! The TPM of a host, as far as attestation by TPM needs it.

use super::facts::{Facts, Log, Tpm};
use crate::{Check, Group, Judgement, Observed};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-H017",
            group: Group::Machine,
            title: "the TPM answers",
            fails_when: "there is none at the device, this user may not use it, another program has it, or it stays busy; a TPM that is locked after too many wrong passwords warns",
            remedy: "switch the TPM on in the firmware's settings, and set `device` in the section [tpm] of the configuration to where it is",
            after: &[],
            judge: |facts| of(facts, answers),
        },
        Check {
            id: "HGS-H018",
            group: Group::Machine,
            title: "the TPM has PCRs for SHA-256",
            fails_when: "its bank of SHA-256 is off",
            remedy: "activate it in the firmware's settings, or with `tpm2_pcrallocate sha256:all`, and restart the machine",
            after: &["HGS-H017"],
            judge: |facts| of(facts, pcrs),
        },
        Check {
            id: "HGS-H019",
            group: Group::Machine,
            title: "the TPM is the one that this host attests with",
            fails_when: "its endorsement key can't be made, is weak, or is another than before",
            remedy: "if the TPM was exchanged, run `guarded-host identity export --other-tpm --out FILE`, and have the guardian's administrator register FILE",
            after: &["HGS-H017"],
            judge: |facts| of(facts, endorsement_key),
        },
        Check {
            id: "HGS-H020",
            group: Group::Machine,
            title: "the TPM has a certificate of its maker",
            fails_when: "the EK certificate in it is not acceptable, or is over another key; a TPM without one warns",
            remedy: "the guardian's administrator can add a host without one: `hgs host add NAME --identity FILE --without-ek-certificate`",
            after: &["HGS-H019"],
            judge: |facts| of(facts, endorsement_certificate),
        },
        Check {
            id: "HGS-H021",
            group: Group::Machine,
            title: "there is an event log of the boot",
            fails_when: "the kernel has none, this user may not read it, or it is malformed",
            remedy: "run this as root; with Secure Boot off, GRUB of Debian 12 boots without a log: use `linuxefi` and `initrdefi` in its configuration, or switch Secure Boot on",
            after: &[],
            judge: |facts| of(facts, event_log),
        },
        Check {
            id: "HGS-H022",
            group: Group::Machine,
            title: "the event log gives the values of the PCRs",
            fails_when: "a PCR has another value than the events of the log give it",
            remedy: "restart the machine: something was measured that is not in the log; if it stays so, see the firmware's updates",
            after: &["HGS-H018", "HGS-H021"],
            judge: |facts| of(facts, |tpm| replay(&tpm.event_log)),
        },
        Check {
            id: "HGS-H023",
            group: Group::Machine,
            title: "the log of IMA gives the value of PCR 10",
            fails_when: "the log can't be read, is malformed, or does not lead to the value of PCR 10",
            remedy: "run this as root, and restart the machine if it stays so",
            after: &["HGS-H018"],
            judge: |facts| of(facts, ima_log),
        },
    ]
}

fn of(facts: &Facts, judge: fn(&Tpm) -> Option<Judgement>) -> Vec<Judgement> {
    facts.tpm.as_ref().and_then(judge).into_iter().collect()
}

/// A judgement of something that was looked at: `seen` says what was found.
fn observed<T>(target: &str, found: &Observed<T>, seen: impl FnOnce(&T) -> Judgement) -> Judgement {
    match found {
        Ok(found) => seen(found),
        Err(problem) => Judgement::fail(target, problem).remedy(problem.remedy.clone()),
    }
}

fn answers(tpm: &Tpm) -> Option<Judgement> {
    let target = &tpm.device;
    Some(observed(target, &tpm.is_locked, |is_locked| {
        match is_locked {
        false => Judgement::pass(target, "it answers"),
        true => Judgement::warning(
            target,
            "it is locked after too many wrong passwords; attestation needs none",
        )
        .remedy(Some(
            "find out which program uses wrong passwords; `tpm2_dictionarylockout --clear-lockout` ends it".to_owned(),
        )),
    }
    }))
}

fn pcrs(tpm: &Tpm) -> Option<Judgement> {
    let target = &tpm.device;
    let read = tpm.pcrs.as_ref()?;
    Some(observed(target, read, |()| {
        Judgement::pass(target, "all 24 can be read")
    }))
}

fn endorsement_key(tpm: &Tpm) -> Option<Judgement> {
    let target = &tpm.device;
    let key = tpm.endorsement_key.as_ref()?;
    Some(observed(target, key, |digest| {
        Judgement::pass(
            target,
            format!("the SHA-256 of its endorsement key is {digest}"),
        )
    }))
}

fn endorsement_certificate(tpm: &Tpm) -> Option<Judgement> {
    let target = &tpm.device;
    let certificate = tpm.endorsement_certificate.as_ref()?;
    Some(observed(
        target,
        certificate,
        |certificate| match certificate {
            Some(thumbprint) => Judgement::pass(target, format!("EK certificate {thumbprint}")),
            None => Judgement::warning(target, "there is none in its memory"),
        },
    ))
}

fn event_log(tpm: &Tpm) -> Option<Judgement> {
    let target = &tpm.event_log.path;
    Some(observed(
        target,
        &tpm.event_log.events,
        |events| match events {
            Some(events) => Judgement::pass(target, format!("{events} events")),
            None => Judgement::fail(target, "there is none"),
        },
    ))
}

fn replay(log: &Log) -> Option<Judgement> {
    let replay = log.replay.as_ref()?;
    Some(observed(&log.path, replay, |()| {
        Judgement::pass(&log.path, "it replays")
    }))
}

/// A host without IMA has nothing to judge: whether that is enough, the guardian's policies say.
fn ima_log(tpm: &Tpm) -> Option<Judgement> {
    let log = &tpm.ima_log;
    match &log.events {
        Ok(None) => None,
        Ok(Some(_)) => replay(log),
        Err(problem) => Some(Judgement::fail(&log.path, problem).remedy(problem.remedy.clone())),
    }
}
