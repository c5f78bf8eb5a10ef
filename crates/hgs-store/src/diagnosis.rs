//! Which record is missing, stale or too many, when the whole is not what it was.
//!
//! The audit log says what every transaction and release wrote. Carried out again on paper, it
//! yields what should be there; what is there instead is the culprit. This runs only when the
//! store is about to be refused, so it may take time and memory.

use std::collections::BTreeMap;

use hgs_pki::Time;

use crate::audit::{self, Action, AuditEntry, AuditRecord, Outcome};
use crate::engine::{StoredRow, View};
use crate::lineage::{self, Standing};
use crate::model::Digest;
use crate::node::{Node, Stage};
use crate::record::{Integrity, Keys, RecordKind};
use crate::{Finding, OpenError, State, Tampered};

/// Names the record that is wrong.
pub(crate) fn find(
    view: &dyn View,
    keys: &Keys,
    row: &StoredRow,
    state: &State,
    integrity: &Integrity,
) -> Result<Tampered, OpenError> {
    if row.root == integrity.root(keys) {
        return Ok(Tampered::new("store", 1, Finding::Changed));
    }
    if integrity.audit.sequence < row.audit_sequence {
        return Ok(audit::tampered(
            integrity.audit.sequence + 1,
            Finding::Missing,
        ));
    }
    let mut expected = Expected {
        records: BTreeMap::new(),
        nodes: BTreeMap::new(),
        has_foreign_nodes: false,
        has_older_attestations: false,
        is_partial: audit::Boundary::of(view, &keys.audit)? != audit::Boundary::NONE,
        now: Time::MIN,
    };
    audit::verify(view, &keys.audit, |row| -> Result<(), OpenError> {
        expected.replay(&audit::read(&row)?);
        Ok(())
    })?;
    let mut nodes = BTreeMap::new();
    view.each_node(|stored| -> Result<(), OpenError> {
        let (node, _) = stored.verified(keys)?;
        nodes.insert(node.digest, node);
        Ok(())
    })?;
    let culprit = expected
        .wrong_record(state)
        .or_else(|| expected.wrong_node(&nodes));
    // What remains is the row that holds the whole together: its tag, its generation, or the end
    // of the log.
    Ok(culprit.unwrap_or_else(|| Tampered::new("store", 1, Finding::Changed)))
}

/// What should be in the database.
struct Expected {
    /// By kind and name: the generation it was written in, or `None` once it is removed.
    records: BTreeMap<(String, String), Option<u64>>,
    nodes: BTreeMap<Digest, ExpectedNode>,
    /// Whether nodes were taken in from elsewhere, of which this log does not tell.
    has_foreign_nodes: bool,
    /// Whether hosts attested under version 5 of the schema or an earlier one. Their attestations got records of their
    /// own by a migration, of which the log does not tell.
    has_older_attestations: bool,
    /// Whether the beginning of the log was archived.
    is_partial: bool,
    /// The time of the newest release.
    now: Time,
}

struct ExpectedNode {
    parent: Option<Digest>,
    stage: Stage,
    last_seen: Time,
}

impl Expected {
    fn replay(&mut self, record: &AuditRecord) {
        for change in &record.changes {
            let name = (change.kind.to_string(), change.name.clone());
            let written = (!change.removed).then_some(record.generation);
            self.records.insert(name, written);
        }
        let entry = &record.entry;
        let mut changes = record.changes.iter();
        self.has_older_attestations |=
            entry.action == Action::Attest && changes.any(|change| change.kind == RecordKind::Host);
        self.has_foreign_nodes |= entry.action == Action::ImportState;
        if entry.action == Action::Release && entry.outcome == Outcome::Done {
            self.replay_release(entry);
        }
    }

    fn replay_release(&mut self, entry: &AuditEntry) {
        let (Some(ingress), Some(egress)) = (entry.protector, entry.egress_protector) else {
            return;
        };
        self.now = entry.time;
        let node = self.nodes.remove(&ingress);
        // A protector that was forgotten is new when it comes back.
        let node = node.filter(|_| entry.standing != Some(Standing::New));
        let (parent, stage) = node.map_or((None, Stage::Head), |node| (node.parent, node.stage));
        if stage == Stage::Issued
            && let Some(parent) = parent.and_then(|parent| self.nodes.get_mut(&parent))
            && parent.stage == Stage::Head
        {
            parent.stage = Stage::Ancestor;
            parent.last_seen = entry.time;
        }
        let opened = ExpectedNode {
            parent,
            stage: stage.max(Stage::Head),
            last_seen: entry.time,
        };
        let issued = ExpectedNode {
            parent: Some(ingress),
            stage: Stage::Issued,
            last_seen: entry.time,
        };
        self.nodes.extend([(ingress, opened), (egress, issued)]);
    }

    fn wrong_record(&self, state: &State) -> Option<Tampered> {
        let found: BTreeMap<_, _> = state
            .written()
            .into_iter()
            .map(|(key, generation)| ((key.kind().to_string(), key.to_string()), generation))
            .collect();
        let expected = self.records.iter().find_map(|(name, expected)| {
            let finding = match (expected, found.get(name)) {
                (Some(expected), Some(found)) if expected == found => return None,
                (Some(_), Some(_)) => Finding::Stale,
                (Some(_), None) => Finding::Missing,
                (None, Some(_)) => Finding::Unexpected,
                (None, None) => return None,
            };
            Some(Tampered::new(&name.0, &name.1, finding))
        });
        let mut names = found.keys();
        expected.or_else(|| {
            if self.is_partial {
                return None;
            }
            let is_migrated = |name: &(String, String)| {
                self.has_older_attestations && name.0 == RecordKind::HostAttestation.as_str()
            };
            let stranger =
                names.find(|name| !self.records.contains_key(name) && !is_migrated(name))?;
            Some(Tampered::new(&stranger.0, &stranger.1, Finding::Unexpected))
        })
    }

    fn wrong_node(&self, found: &BTreeMap<Digest, Node>) -> Option<Tampered> {
        if self.has_foreign_nodes || self.is_partial {
            return None;
        }
        let expected = self.nodes.iter().find_map(|(digest, expected)| {
            let finding = match found.get(digest) {
                Some(node) if expected.is(node) => return None,
                Some(_) => Finding::Stale,
                None if self.may_be_forgotten(expected) => return None,
                None => Finding::Missing,
            };
            Some(Tampered::new("lineage", digest, finding))
        });
        let mut digests = found.keys();
        expected.or_else(|| {
            let stranger = digests.find(|digest| !self.nodes.contains_key(digest))?;
            Some(Tampered::new("lineage", stranger, Finding::Unexpected))
        })
    }

    /// Ancestors are forgotten after a time, and with them their children that never came back.
    fn may_be_forgotten(&self, node: &ExpectedNode) -> bool {
        let outdated = |node: &ExpectedNode| {
            let before = self.now.checked_sub(lineage::RETENTION);
            node.stage == Stage::Ancestor && before.is_some_and(|before| node.last_seen < before)
        };
        let parent = node.parent.and_then(|parent| self.nodes.get(&parent));
        outdated(node) || (node.stage == Stage::Issued && parent.is_some_and(outdated))
    }
}

impl ExpectedNode {
    fn is(&self, node: &Node) -> bool {
        node.stage == self.stage && node.last_seen == self.last_seen
    }
}
