//! The keys with which a VM starts: those that a guardian releases now, or those that the host has kept for the time when no
//! guardian answers.

use hgs_client::{Error, GuardedHost, KeptKey, KeptKeyError, Unwrapped};
use hgs_kps::ServiceVersion;
use hgs_protector::TransportKey;
use hgs_vm::description::VmId;
use hgs_vm::generation::StateFolder;
use hgs_vm::program::Program;
use hgs_vm::protection::Protection;
use hgs_vm::swtpm::StateKey;
use tokio::sync::Notify;

use super::running::{Prepared, Protected, current, renew};
use crate::progress::Progress;
use crate::wire::AgentFailure;

/// Where the keys of a start come from, and what the owner decided.
pub(super) enum Keys {
    /// A guardian has released them: the state gets a new key.
    Released(Unwrapped, Protected),
    /// No guardian could be reached: the state keeps its key.
    Kept(KeptKey, Protection),
}

impl Keys {
    /// Has the keys of a VM released, or uses what was kept of them if no guardian answers. A guardian that refuses has answered.
    pub(super) async fn of(
        host: &GuardedHost,
        prepared: &Prepared,
        ask_again: &Notify,
        progress: &Progress,
    ) -> Result<Self, AgentFailure> {
        let Prepared {
            description,
            protector,
            sealed,
            ..
        } = prepared;
        progress.step("asking the guardian for the keys");
        let away = match host.unwrap(protector, ServiceVersion::V2).await {
            Ok(unwrapped) => {
                let protected = Protected::open(&unwrapped, sealed, description)?;
                return Ok(Self::Released(unwrapped, protected));
            }
            Err(error) if error.is_service_away() => error,
            Err(error) => return Err(error.into()),
        };
        let kept = match host.use_kept_key(protector).await {
            Ok(kept) => kept,
            Err(Error::KeptKey(KeptKeyError::NotKept)) => return Err(away.into()),
            Err(error) => {
                let failure = AgentFailure::from(away);
                return Err(AgentFailure {
                    message: format!("{}; and {error}", failure.message),
                    ..failure
                });
            }
        };
        // Once a guardian answers, it is told at once.
        ask_again.notify_one();
        let left = left_of(&kept);
        progress.step(&format!(
            "no guardian answers: using the key that this host has kept ({left})"
        ));
        tracing::warn!(vm = %description.id, %away, %left, "no guardian answers; using a kept key");
        let document = kept.open(sealed).map_err(Error::from)?;
        let protection = Protection::read(document.expose())?;
        protection.check_vm(description.id)?;
        Ok(Self::Kept(kept, protection))
    }

    /// What the owner decided.
    pub(super) fn protection(&self) -> &Protection {
        match self {
            Self::Released(_, protected) => &protected.protection,
            Self::Kept(_, protection) => protection,
        }
    }

    /// The transport key under which the state is once it was [renewed](Self::renew).
    pub(super) fn current_key(&self) -> &TransportKey {
        match self {
            Self::Released(unwrapped, _) => unwrapped.egress_key(),
            Self::Kept(kept, _) => kept.key(),
        }
    }

    /// Moves the state to its new key if a guardian has released one, and returns the key that it is under then.
    pub(super) fn renew(
        &self,
        state: &mut StateFolder,
        swtpm: &Program,
    ) -> Result<StateKey, AgentFailure> {
        match self {
            Self::Released(unwrapped, protected) => {
                renew(state, unwrapped, &protected.resealed, swtpm)
            }
            Self::Kept(..) => {
                current(state)?.forget_migration_key()?;
                Ok(StateKey::of_transport_key(self.current_key().secret())?)
            }
        }
    }

    /// Whether no guardian could be reached.
    pub(super) fn are_kept(&self) -> bool {
        matches!(self, Self::Kept(..))
    }

    /// What a person should know about a VM that was started with them.
    pub(super) fn warning(&self) -> Option<String> {
        let Self::Kept(kept, _) = self else {
            return None;
        };
        Some(format!(
            "started while no guardian could be reached, with a key that this host had kept ({}): the state of its TPM has no new key",
            left_of(kept)
        ))
    }

    /// Keeps the key of the protector that is current now for a start without a guardian, as far as its guardian allows that.
    /// Says why not: the VM itself is not affected.
    pub(super) async fn keep(&self, host: &GuardedHost, vm: VmId) -> Option<String> {
        match self {
            Self::Released(unwrapped, _) => keep(host, vm, unwrapped).await,
            Self::Kept(..) => None,
        }
    }
}

fn left_of(kept: &KeptKey) -> String {
    format!("{} uses are left until {}", kept.uses_left, kept.until)
}

/// Keeps the egress key of a release whose protector is the current one.
pub(super) async fn keep(host: &GuardedHost, vm: VmId, unwrapped: &Unwrapped) -> Option<String> {
    let error = host.keep_key(&vm.to_string(), unwrapped).await.err()?;
    tracing::warn!(%vm, %error, "the VM will not start without a guardian");
    Some(format!(
        "its guardian allows starts while no guardian can be reached, but this host could not keep the key: {error}"
    ))
}
