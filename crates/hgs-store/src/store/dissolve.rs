//! The copy of a node that does not run becomes the state of a guardian of one node.
//!
//! Records, lineage and audit log stay as they are. In one commit with its audit record, the position in the order goes, by
//! which a state is one of a cluster's: from then on the order of that cluster refuses it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use hgs_pki::Time;

use super::{OpenedState, Opening, progress_of};
use crate::audit::{self, Action, AuditEntry, Outcome};
use crate::engine::{Durability, Program, Sqlite};
use crate::outcome::Failure;
use crate::record::Keys;
use crate::state_folder::StateFolder;
use crate::transaction::Act;
use crate::writer::job;
use crate::{OpenError, Progress, RolledBack, StoreError};

/// A state whose node does not run, held by this process: every record of it was verified.
pub struct StoppedCopy {
    found: OpenedState,
    extent: CopyExtent,
}

/// How far a copy of the state goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyExtent {
    /// How far it holds what the nodes of a cluster have ordered; `None` where it is of none.
    pub progress: Option<Progress>,
    /// The number of its newest audit record.
    pub audit_sequence: u64,
    /// When that was made.
    pub newest: Option<Time>,
}

impl StoppedCopy {
    /// Opens the state and checks all of it, whether or not it is the newest one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(opening: Opening<'_>) -> Result<Self, OpenError> {
        let folder = StateFolder::take_existing(opening.directory)?;
        let keys = Arc::new(Keys::derive(opening.master_key));
        let (master_key, directory) = (opening.master_key, opening.directory.to_owned());
        let program = Program::this();
        let copy = Sqlite::open(folder, Durability::Full, &program, master_key, &keys)?;
        let found = OpenedState::through(Box::new(copy), Arc::clone(&keys), opening)?;
        if !found.is_initialised() {
            return Err(OpenError::NotInitialised { directory });
        }
        let view = found.writer.engine.readers().snapshot()?;
        let audit_sequence = view.row()?.map_or(0, |row| row.audit_sequence);
        let newest = view.audit_row(audit_sequence)?;
        let newest = newest.as_ref().map(audit::read).transpose();
        let newest = newest.map_err(StoreError::from)?;
        Ok(Self {
            found,
            extent: CopyExtent {
                progress: progress_of(&*view, &keys)?,
                audit_sequence,
                newest: newest.map(|record| record.entry.time),
            },
        })
    }

    /// How far it goes.
    #[must_use]
    pub const fn extent(&self) -> &CopyExtent {
        &self.extent
    }

    /// What its high-water mark says against it.
    #[must_use]
    pub const fn rolled_back(&self) -> Option<&RolledBack> {
        self.found.rolled_back.as_ref()
    }

    /// Makes it the state of a guardian of one node, and the newest one whatever its high-water mark said. `about` says which
    /// cluster it was of. The number of the audit record; `None` where it is of no cluster and nothing was done.
    ///
    /// # Errors
    /// Why it is as it was.
    pub fn dissolve(
        mut self,
        about: serde_json::Value,
        act: Act,
    ) -> Result<Option<u64>, OpenError> {
        if self.extent.progress.is_none() {
            return Ok(None);
        }
        let rolled_back = self.found.rolled_back.take();
        let entry = AuditEntry {
            reason: rolled_back.as_ref().map(ToString::to_string),
            before: Some(about),
            ..act.entry(Action::DissolveCluster, Outcome::Done)
        };
        let (sender, receiver) = sync_channel(1);
        let decide = move |planner: &mut crate::planner::BatchPlanner<'_>| {
            planner.leave_cluster();
            planner.note(entry.clone(), Vec::new()).map(Ok)
        };
        let reply = move |result| drop(sender.send(result));
        let leaving = job(true, decide, Box::new(reply));
        match rolled_back {
            None => self.found.writer.commit(vec![leaving]),
            Some(_) => self.found.writer.accept(leaving),
        }
        let left: Result<u64, Failure<Infallible>> =
            receiver.recv().map_err(|_| StoreError::Closed)?;
        Ok(Some(left.map_err(StoreError::from)?))
    }
}
