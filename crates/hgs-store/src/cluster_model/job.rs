//! What hosts and administrators ask for.

use std::sync::Arc;

use hgs_pki::health::HealthKind;
use hgs_pki::{SerialNumber, Time};
use hgs_testkit::fixtures::Guardian;

use super::copy::{Name, name};
use super::service::{Roll, TENANT, contoso, host_id, pair, time};
use crate::backup::{Carried, Resolution, merge};
use crate::model::Digest;
use crate::outcome::Failure;
use crate::planner::BatchPlanner;
use crate::transaction::Attestation;
use crate::transaction::{Act, Transaction};
use crate::{ReleaseRecord, State, StoreError};

/// Tasks are done later than all releases: a protector that was made before a compromise is known to have been.
const TASKS: u8 = 100;

/// What an administrator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Task {
    /// Bars the first host.
    Revoke,
    /// Adds the tenant's next pair and makes it the head.
    Rotate,
    /// Says that the first pair of the tenant is compromised.
    Compromise,
    /// Retires it.
    Retire,
    /// Forgets it, unless it is needed.
    Remove,
    /// Disables it.
    Disable,
    /// Takes the backup in that was made at the beginning.
    Merge,
    /// Bars the second host twice in one commit, which is refused as a whole.
    RevokeTwice,
    /// Takes the first host out of the registry.
    RemoveHost,
}

/// One job of a node's queue.
pub(super) struct Job {
    /// When it was asked for: the number of the step.
    pub(super) number: u8,
    pub(super) kind: Kind,
    /// By what it is told from others.
    pub(super) name: Name,
}

pub(super) enum Kind {
    /// A decided release.
    Release {
        roll: Arc<Roll>,
        host: u8,
        decided_from: u64,
        /// Whether the revocation of the host was acknowledged before it was asked for.
        too_late: bool,
    },
    /// With the backup that was made at the beginning.
    Task(Task, Arc<State>),
    /// The first host has attested with the identity key of this number.
    Attest { key: u8 },
}

/// How the planner decided a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Refused(String),
    Failed(String),
}

impl<T, E: std::fmt::Display> From<Result<T, Failure<E>>> for Outcome {
    fn from(decided: Result<T, Failure<E>>) -> Self {
        match decided {
            Ok(_) => Self::Done,
            Err(Failure::Refused(refusal)) => Self::Refused(refusal.to_string()),
            Err(Failure::Store(error)) => Self::Failed(error.to_string()),
        }
    }
}

impl Job {
    /// Whether it takes a document in.
    pub(super) fn is_import(&self) -> bool {
        matches!(self.kind, Kind::Task(Task::Merge, _))
    }

    pub(super) fn new(number: u8, kind: Kind) -> Arc<Self> {
        let text = match &kind {
            Kind::Task(task, _) => format!("{task:?} at {number}"),
            Kind::Attest { key } => format!("attested with {key} at {number}"),
            Kind::Release {
                roll,
                host,
                decided_from,
                too_late,
            } => format!(
                "{} to {host} at {number} of {decided_from}, {too_late}",
                roll.record.egress
            ),
        };
        Arc::new(Self {
            number,
            kind,
            name: name(&[text.as_bytes()]),
        })
    }

    pub(super) fn decide(&self, planner: &mut BatchPlanner<'_>) -> Result<Outcome, StoreError> {
        match &self.kind {
            Kind::Release {
                roll, decided_from, ..
            } => {
                let record = ReleaseRecord {
                    decided_from: *decided_from,
                    ..roll.record.clone()
                };
                planner.release(&record).map(Outcome::from)
            }
            Kind::Task(Task::Merge, backup) => take_in(planner, backup),
            Kind::Attest { key } => {
                let attestation = Attestation {
                    host: host_id(0),
                    kind: HealthKind::Encryption,
                    identity_key: Digest::from_bytes([*key; 32]),
                    returned_nonce: false,
                    serial: SerialNumber::from_bytes(&[1, self.number]).unwrap(),
                    policy: Digest::from_bytes([0; 32]),
                    expires: None,
                    attempted: None,
                };
                let act = Act::new(time(self.number), "host");
                let attested = [Transaction::RecordAttestation(attestation)];
                planner.transact(&attested, &act).map(Outcome::from)
            }
            Kind::Task(task, _) => {
                let act = Act::new(time(TASKS + self.number), "uid 0");
                planner
                    .transact(&task.transactions(act.time), &act)
                    .map(Outcome::from)
            }
        }
    }
}

impl Task {
    fn transactions(self, time: Time) -> Vec<Transaction> {
        let [first, next] = TENANT.map(Guardian::named);
        match self {
            Self::Revoke => vec![Transaction::RevokeHost {
                id: host_id(0),
                reason: "stolen".to_owned(),
            }],
            Self::Rotate => {
                let mut transactions = pair(TENANT[1], &contoso(), false, time);
                transactions.extend([&next.signing, &next.encryption].map(|certificate| {
                    Transaction::SetHead {
                        thumbprint: certificate.thumbprint(),
                        primary: false,
                    }
                }));
                transactions
            }
            Self::Compromise => vec![Transaction::SetCompromised {
                thumbprint: first.signing.thumbprint(),
                since: time,
            }],
            Self::Retire => vec![Transaction::RetireCertificate {
                thumbprint: first.encryption.thumbprint(),
            }],
            Self::Remove => vec![Transaction::RemoveCertificate {
                thumbprint: first.encryption.thumbprint(),
                even_if_needed: false,
            }],
            Self::Disable => vec![Transaction::SetCertificateEnabled {
                thumbprint: first.encryption.thumbprint(),
                enabled: false,
            }],
            Self::Merge => Vec::new(),
            Self::RevokeTwice => [0, 1]
                .map(|_| Transaction::RevokeHost {
                    id: host_id(1),
                    reason: "stolen".to_owned(),
                })
                .into(),
            Self::RemoveHost => vec![Transaction::RemoveHost { id: host_id(0) }],
        }
    }
}

/// Takes in a document as an import does: what it makes of the state, in a generation of its own.
fn take_in(planner: &mut BatchPlanner<'_>, backup: &State) -> Result<Outcome, StoreError> {
    let carried = Carried {
        settings: Some(backup.settings().clone()),
        certificates: backup
            .certificates()
            .map(|one| (one.thumbprint(), one.clone()))
            .collect(),
        hosts: backup.hosts().map(|one| (one.id, one.clone())).collect(),
        signers: backup
            .attestation_signers()
            .map(|one| (one.thumbprint(), one.clone()))
            .collect(),
        ..Carried::default()
    };
    let merged = match merge(&planner.state, &carried, Resolution::TakeTheirs) {
        Ok(merged) => merged,
        Err(inconsistent) => return Ok(Outcome::Refused(inconsistent.to_string())),
    };
    planner.state.set_generation(planner.state.generation() + 1);
    for change in merged.changes {
        planner.write(change)?;
    }
    Ok(Outcome::Done)
}
