//! Which audit records are events, and what is told of them.

use hgs_admin::types::{Event, EventKind, NamedAction, RecordedEvent};
use hgs_store::{Action, AuditRecord, Outcome, RecordChange, RecordKind};

/// Changes that are told of one record.
const MAX_CHANGES: usize = 32;

/// An event that is an audit record.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) sequence: u64,
    pub(super) kind: EventKind,
    pub(super) event: Event,
}

impl Recorded {
    /// The event that `record` is, if it is one.
    pub(super) fn of(record: AuditRecord) -> Option<Self> {
        let kind = kind_of(record.entry.action, record.entry.outcome)?;
        let sequence = record.sequence;
        let event = Event::recorded(kind, told(kind, record))?;
        Some(Self {
            sequence,
            kind,
            event,
        })
    }

    /// Whether readiness, or the ends of certificates, may be others now.
    pub(super) fn changes_standing(&self) -> bool {
        !matches!(
            self.kind,
            EventKind::RefusedAttestation | EventKind::RefusedRelease | EventKind::RefusedChange
        )
    }
}

/// Health certificates that were issued and keys that were released are no events: there are too many, and nothing of what
/// administrators look at changes by them.
fn kind_of(action: Action, outcome: Outcome) -> Option<EventKind> {
    let is_refused = outcome == Outcome::Refused;
    Some(match action {
        Action::Attest => return is_refused.then_some(EventKind::RefusedAttestation),
        Action::Release => return is_refused.then_some(EventKind::RefusedRelease),
        Action::OfflineUnwraps | Action::Trace => return None,
        _ if is_refused => EventKind::RefusedChange,
        Action::RevokeHost | Action::RemoveHost | Action::DenyHost => EventKind::Revocation,
        Action::AddHost
        | Action::AllowHost
        | Action::ReadmitHostKey
        | Action::ReadmitEndorsementKey
        | Action::AddEndorsementRoot
        | Action::RemoveEndorsementRoot
        | Action::SetHostGroup
        | Action::NewHostGroup
        | Action::RemoveHostGroup
        | Action::ReturnIdentityKey => EventKind::Host,
        Action::SetHostMeasurements
        | Action::AcceptNextBoot
        | Action::AddPolicyDocument
        | Action::ChangePolicyDocument
        | Action::PromoteAlternatives
        | Action::RemovePolicyDocument
        | Action::EnablePolicy
        | Action::DisablePolicy
        | Action::ResetPolicy => EventKind::Policy,
        Action::AddCertificate
        | Action::EnableCertificate
        | Action::DisableCertificate
        | Action::SetHead
        | Action::SetCertificateLabel
        | Action::SetCompromised
        | Action::RetireCertificate
        | Action::RemoveCertificate => EventKind::Certificate,
        Action::AddAttestationSigner
        | Action::SetAttestationSigner
        | Action::RetireAttestationSigner
        | Action::RemoveAttestationSigner => EventKind::Signer,
        Action::SetSettings
        | Action::SetRekeyWindow
        | Action::SetAttestationMode
        | Action::SetNextBootClaims
        | Action::SetKeyCaching => EventKind::Settings,
        Action::RaiseLevel
        | Action::InviteNode
        | Action::AdmitNode
        | Action::RemoveNode
        | Action::DissolveCluster => EventKind::Cluster,
        Action::ExportState
        | Action::ImportState
        | Action::RotateMasterKey
        | Action::AcceptState
        | Action::ArchiveAudit => EventKind::State,
    })
}

fn told(kind: EventKind, record: AuditRecord) -> RecordedEvent {
    let entry = record.entry;
    let is_told = |change: &&RecordChange| match change.kind {
        // Every change writes the settings again, so that no release is decided from what was before.
        RecordKind::Settings => kind == EventKind::Settings,
        // The API has no names for keys beside those of their certificates.
        RecordKind::PrivateKey => false,
        _ => true,
    };
    let changes = record.changes.iter().filter(is_told);
    RecordedEvent {
        sequence: record.sequence,
        time: entry.time.to_string(),
        node: record.node,
        actor: entry.actor,
        action: NamedAction::Known(entry.action),
        outcome: entry.outcome,
        reason: entry.reason,
        host: entry.host,
        host_name: entry.host_name,
        count: entry.count,
        changes: changes.take(MAX_CHANGES).map(ToString::to_string).collect(),
    }
}
