//! Policies tried on evidence, and approvals of what hosts booted.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use hgs_admin::types::{ApproveHosts, ApprovedHost, Judgement, PageQuery, SimulatePolicies, Trial};
use hgs_admin::{AdminError, ErrorCode, HostSelector};
use hgs_attest::policy::{
    Baseline, Evaluation, EvidenceError, HostMeasurements, PolicyName, PolicySet, RecordedEvidence,
    approve,
};
use hgs_crypto::{base64, hex};
use hgs_pki::Time;
use hgs_pki::health::HostId;
use hgs_store::{
    DocumentKind, ExpectedMeasurements, Host, KeptEvidence, PolicyDocument, PolicyError,
    PolicyTrial, ShortName, State, Transaction,
};
use hgs_tcg::event_log::{Bank, PcrValues};
use serde_json::{Value, json};

use super::super::judgement::{differences, judgement, no_judgement};
use super::{AdminHandler, find_host, pages, unavailable};

/// Sets with the changes of a trial, each group's compiled once.
struct TriedSets<'a> {
    state: &'a State,
    trial: PolicyTrial,
    groups: BTreeMap<Option<ShortName>, Arc<PolicySet>>,
}

impl<'a> TriedSets<'a> {
    fn new(state: &'a State, trial: PolicyTrial) -> Self {
        Self {
            state,
            trial,
            groups: BTreeMap::new(),
        }
    }

    fn of_group(&mut self, group: Option<ShortName>) -> Result<&Arc<PolicySet>, PolicyError> {
        Ok(match self.groups.entry(group) {
            Entry::Occupied(compiled) => compiled.into_mut(),
            Entry::Vacant(place) => {
                place.insert(self.state.tried_policy_set(group.as_ref(), &self.trial)?)
            }
        })
    }

    /// Tries a document in the place of the one with the same name.
    fn change(&mut self, document: PolicyDocument) {
        self.trial.changed.insert(document.name, document);
        self.groups.clear();
    }

    /// What a host would be judged by.
    fn of_host(&mut self, host: &Host) -> Result<Arc<PolicySet>, PolicyError> {
        let state = self.state;
        if self.trial == PolicyTrial::default() {
            return state.policy_set_of(host);
        }
        state.policy_set_of_host_in(host, self.of_group(host.group)?)
    }
}

/// What a host booted last, judged by what holds now.
struct LastBoot<'s> {
    host: &'s Host,
    evidence: KeptEvidence,
}

impl AdminHandler<'_> {
    /// Judges evidence of any origin.
    pub(super) fn judge_evidence(
        &self,
        request: &SimulatePolicies,
    ) -> Result<Judgement, AdminError> {
        let state = self.parts.store.state();
        let evidence = given_evidence(request)?;
        let host = request.host.as_ref().map(|host| {
            let selector: HostSelector = host.parse()?;
            find_host(&state, &selector)
        });
        let host = host.transpose()?;
        let trial = trial(&request.trial, self.parts.clock.now())?;
        let set = match (host, &request.group) {
            (Some(host), None) => TriedSets::new(&state, trial).of_host(host),
            (None, group) => {
                let group = group.as_deref().map(str::parse::<ShortName>).transpose();
                state.tried_policy_set(group.map_err(AdminError::invalid)?.as_ref(), &trial)
            }
            (Some(_), Some(_)) => {
                return Err(AdminError::invalid("name a host or a group, not both"));
            }
        };
        let set = set.map_err(conflict)?;
        let judged = set.evaluate_recorded(&evidence, self.parts.clock.now());
        Ok(Judgement {
            host: host.map(|host| host.name.to_string()),
            ..judged.map_or_else(
                |error| no_judgement(Some(error.to_string())),
                |evaluation| judgement(&evaluation),
            )
        })
    }

    /// Judges the last evidence of hosts with TPMs, by name.
    pub(super) fn judge_hosts(
        &self,
        page: &PageQuery,
        request: &Trial,
    ) -> Result<Vec<Judgement>, AdminError> {
        let state = self.parts.store.state();
        let now = self.parts.clock.now();
        let trial = trial(request, now)?;
        let mut sets = TriedSets::new(&state, trial);
        // A trial that is wrong is refused, also where there is no host to judge.
        match sets.of_group(None) {
            Err(error) if !error.is_incomplete() => return Err(conflict(error)),
            _ => {}
        }
        let after = page.after.as_deref().map(str::to_ascii_lowercase);
        pages::page(with_tpm(&state), page.limit, after, |host| {
            host.name.folded()
        })?
        .into_iter()
        .map(|host| {
            let judged = match sets.of_host(host) {
                // Every host of such a group is refused, whatever it boots.
                Err(error) if error.is_incomplete() => no_judgement(Some(error.to_string())),
                Err(error) => return Err(conflict(error)),
                Ok(set) => self.judge_last_boot(host, &set, now)?,
            };
            let attempt = host.last_attempt.as_ref();
            Ok(Judgement {
                host: Some(host.name.to_string()),
                time: attempt.map(|attempt| attempt.time.to_string()),
                ..judged
            })
        })
        .collect()
    }

    fn judge_last_boot(
        &self,
        host: &Host,
        set: &PolicySet,
        now: Time,
    ) -> Result<Judgement, AdminError> {
        let kept = self.parts.store.evidence(&host.id).map_err(unavailable)?;
        let Some(kept) = kept else {
            let problem = "the host has sent no evidence yet";
            return Ok(no_judgement(Some(problem.to_owned())));
        };
        if let Some(octets) = kept.ima_left_out
            && set.is_enabled(PolicyName::CiPolicy)
        {
            let problem = format!(
                "the host's IMA log has {octets} octets and was not kept; what it says is not known here"
            );
            return Ok(no_judgement(Some(problem)));
        }
        let judged = set.evaluate_recorded(&kept.evidence, now);
        Ok(judged.map_or_else(
            |error| no_judgement(Some(error.to_string())),
            |evaluation| judgement(&evaluation),
        ))
    }

    /// Makes what hosts booted last an alternative of their baseline, or their own, in one commit.
    pub(super) fn approve_boots(
        &self,
        request: &ApproveHosts,
    ) -> Result<Vec<ApprovedHost>, AdminError> {
        let state = self.parts.store.state();
        let now = self.parts.clock.now();
        let boots = self.boots_to_approve(&state, request)?;
        let mut approvals = Approvals {
            state: &state,
            now,
            by: &self.actor,
            label: request.label.as_deref(),
            sets: TriedSets::new(&state, PolicyTrial::default()),
            own: BTreeMap::new(),
            notes: BTreeMap::new(),
        };
        let mut approved = Vec::new();
        for boot in &boots {
            approved.push(approvals.approve(boot)?);
        }
        for (boot, shown) in boots.iter().zip(&mut approved) {
            let judged = approvals.judge(boot)?;
            shown.healthy = judged.is_ok_and(|evaluation| evaluation.is_healthy());
        }
        self.transact_all(approvals.into_transactions())?;
        Ok(approved)
    }

    fn boots_to_approve<'s>(
        &self,
        state: &'s State,
        request: &ApproveHosts,
    ) -> Result<Vec<LastBoot<'s>>, AdminError> {
        let mut hosts = Vec::new();
        let mut seen = BTreeSet::new();
        for name in request.hosts.iter().chain(&request.like) {
            let host = find_host(state, &name.parse()?)?;
            if seen.insert(host.id) {
                hosts.push(host);
            }
        }
        if let Some(like) = &request.like {
            let like = find_host(state, &like.parse()?)?;
            let difference = |host: &Host| host.last_attempt.as_ref()?.difference;
            let Some(wanted) = difference(like) else {
                return Err(nothing_to_approve(like));
            };
            hosts.extend(
                with_tpm(state)
                    .filter(|host| difference(host) == Some(wanted) && seen.insert(host.id)),
            );
        }
        let boots = hosts.into_iter().map(|host| {
            let kept = self.parts.store.evidence(&host.id).map_err(unavailable)?;
            let evidence = kept.ok_or_else(|| nothing_to_approve(host))?;
            Ok(LastBoot { host, evidence })
        });
        boots.collect()
    }
}

/// Approvals that are made one after another: each starts from what those before it have changed.
struct Approvals<'a> {
    state: &'a State,
    now: Time,
    by: &'a str,
    label: Option<&'a str>,
    /// What hosts are judged by with the baselines that were changed.
    sets: TriedSets<'a>,
    /// What only one host measures, where that was changed.
    own: BTreeMap<HostId, HostMeasurements>,
    /// What was approved, by what it changed.
    notes: BTreeMap<Changed, Vec<Value>>,
}

/// What an approval changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Baseline(ShortName),
    Host(HostId),
}

impl Approvals<'_> {
    fn approve(&mut self, boot: &LastBoot<'_>) -> Result<ApprovedHost, AdminError> {
        let host = boot.host;
        let evaluation = self.judge(boot)?.map_err(|error| refused(host, error))?;
        let nearest = evaluation
            .nearest_baseline()
            .or_else(|| evaluation.baseline());
        let mut shown = ApprovedHost {
            host: host.name.to_string(),
            baseline: nearest.unwrap_or_default().to_owned(),
            components: Vec::new(),
            differences: differences(&evaluation),
            healthy: evaluation.is_healthy(),
        };
        if evaluation.differences().is_empty() {
            // Another host of the request had the same, or what failed is no matter of baselines.
            return match evaluation.is_healthy() {
                true => Ok(shown),
                false => Err(refused(host, failed_policies(&evaluation))),
            };
        }
        let document = self.baseline(&shown.baseline)?;
        let baseline = Baseline::from_json(document.text.as_bytes()).map_err(conflict)?;
        let own = self.own_of(host)?;
        let label = self.label.unwrap_or(host.name.as_str());
        let named = (shown.baseline.as_str(), &baseline);
        let approval = approve(named, &own, &evaluation, label, self.by, self.now);
        let approval = approval.map_err(|error| refused(host, error))?;
        let note = json!({
            "host": host.name.to_string(),
            "components": approval.components,
            "differences": shown.differences.iter().map(|one| &one.text).collect::<Vec<_>>(),
        });
        if let Some(baseline) = approval.baseline {
            let changed = PolicyDocument {
                text: baseline.to_json().into(),
                ..document
            };
            let notes = self.notes.entry(Changed::Baseline(changed.name));
            notes.or_default().push(note.clone());
            self.sets.change(changed);
        }
        if let Some(own) = approval.host {
            let notes = self.notes.entry(Changed::Host(host.id));
            notes.or_default().push(note);
            self.own.insert(host.id, own);
        }
        shown.components = approval.components;
        Ok(shown)
    }

    /// How a boot is judged after the approvals so far.
    fn judge(
        &mut self,
        boot: &LastBoot<'_>,
    ) -> Result<Result<Evaluation, EvidenceError>, AdminError> {
        let own = self.own_of(boot.host)?;
        let group = self.sets.of_group(boot.host.group).map_err(conflict)?;
        let set = group.for_host(&own).map_err(conflict)?;
        Ok(set.evaluate_recorded(&boot.evidence.evidence, self.now))
    }

    fn baseline(&self, name: &str) -> Result<PolicyDocument, AdminError> {
        let name: ShortName = name.parse().map_err(AdminError::invalid)?;
        let changed = self.sets.trial.changed.get(&name);
        let document = changed.or_else(|| self.state.policy_document(&name));
        document
            .cloned()
            .ok_or_else(|| conflict(format_args!("there is no baseline {name}")))
    }

    fn own_of(&self, host: &Host) -> Result<HostMeasurements, AdminError> {
        if let Some(own) = self.own.get(&host.id) {
            return Ok(own.clone());
        }
        let record = self.state.host_measurements(&host.id);
        let read = record.map(|record| record.read(&host.name));
        Ok(read.transpose().map_err(conflict)?.unwrap_or_default())
    }

    fn into_transactions(mut self) -> Vec<Transaction> {
        let state = self.state;
        let mut note = |changed| {
            let notes = self.notes.remove(&changed);
            notes.map(|notes| json!({ "approved": notes }))
        };
        let baselines = self.sets.trial.changed.into_values();
        let mut transactions: Vec<_> = baselines
            .map(|document| Transaction::ChangePolicyDocument {
                name: document.name,
                expected: state
                    .policy_document(&document.name)
                    .map(PolicyDocument::digest),
                note: note(Changed::Baseline(document.name)),
                text: document.text,
            })
            .collect();
        transactions.extend(self.own.into_iter().map(|(id, own)| {
            let read = state.host_measurements(&id);
            Transaction::SetHostMeasurements {
                id,
                expected: ExpectedMeasurements::still(read),
                text: Some(own.to_json().into()),
                note: note(Changed::Host(id)),
            }
        }));
        transactions
    }
}

fn with_tpm(state: &State) -> impl Iterator<Item = &Host> {
    state
        .hosts()
        .filter(|host| matches!(host.credential, hgs_store::Credential::EndorsementKey(_)))
}

fn trial(trial: &Trial, now: Time) -> Result<PolicyTrial, AdminError> {
    let settings = |names: &[String], enabled| {
        let named = names.iter().map(|name| {
            let _: ShortName = name.parse().map_err(AdminError::invalid)?;
            Ok((name.clone(), enabled))
        });
        named.collect::<Result<Vec<_>, AdminError>>()
    };
    let document = |kind, (name, text): (&String, &String)| {
        Ok(PolicyDocument {
            name: name.parse().map_err(AdminError::invalid)?,
            kind,
            text: Arc::from(text.as_str()),
            added: now,
            changed: None,
        })
    };
    let baselines = trial.baselines.iter();
    let baselines = baselines.map(|named| document(DocumentKind::Baseline, named));
    let ci_policies = trial.ci_policies.iter();
    let ci_policies = ci_policies.map(|named| document(DocumentKind::CiPolicy, named));
    Ok(PolicyTrial {
        settings: settings(&trial.enable, true)?
            .into_iter()
            .chain(settings(&trial.disable, false)?)
            .collect(),
        documents: baselines
            .chain(ci_policies)
            .collect::<Result<_, AdminError>>()?,
        changed: BTreeMap::new(),
    })
}

fn given_evidence(request: &SimulatePolicies) -> Result<RecordedEvidence, AdminError> {
    let octets = |member: &str, text: &str| {
        base64::decode(text)
            .map_err(|_| AdminError::invalid(format_args!("`{member}` is no Base64")))
    };
    let mut values = PcrValues::new(Bank::Sha256);
    for (pcr, value) in &request.pcrs {
        let value = hex::decode(value).unwrap_or_default();
        values
            .insert((*pcr).into(), &value)
            .map_err(AdminError::invalid)?;
    }
    let ima = request.ima.as_deref().map(|text| octets("ima", text));
    Ok(RecordedEvidence {
        values,
        log: octets("log", &request.log)?,
        ima: ima.transpose()?.unwrap_or_default(),
        preimages: Vec::new(),
        unexplained: Vec::new(),
    })
}

fn failed_policies(evaluation: &Evaluation) -> String {
    let failed = evaluation.failed().map(|result| {
        let reason = result.failure().map(ToString::to_string);
        format!("{}: {}", result.policy, reason.unwrap_or_default())
    });
    failed.collect::<Vec<_>>().join("; ")
}

fn conflict(error: impl ToString) -> AdminError {
    AdminError::new(ErrorCode::Conflict, error)
}

fn refused(host: &Host, error: impl std::fmt::Display) -> AdminError {
    conflict(format!("{}: {error}", host.name))
}

fn nothing_to_approve(host: &Host) -> AdminError {
    refused(host, "there is no refused boot to approve").with_remedy(
        "have the host attest with `guarded-host attest`, then look at `hgs host show`",
    )
}
