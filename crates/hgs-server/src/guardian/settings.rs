//! The settings of the configuration that are part of the state: the store needs them in its commits, and every change
//! of them is in the audit log.

use std::time::Duration;

use hgs_kps::Label;
use hgs_pki::{Seconds, Time};
use hgs_store::{Act, Failure, Levels, Refusal, Settings, Store, Transaction};
use tracing::info;

use super::release::ReleasePolicy;
use crate::config::{Ancestors, Config};

/// Who changes settings by changing the configuration, in the audit log.
const ACTOR: &str = "configuration";

/// The settings that `config` asks for, of a guardian called `name`.
pub(super) fn settings_of(config: &Config, name: Label) -> Settings {
    let validity = config.attestation.health_certificate_validity.as_secs();
    Settings {
        health_certificate_seconds: u32::try_from(validity).unwrap_or(u32::MAX),
        refuse_superseded_protectors: config.key_protection.ancestors == Ancestors::Refuse,
        ..Settings::new(name)
    }
}

/// Brings the settings of the state to what the configuration says.
pub(crate) fn follow(store: &Store, config: &Config, now: Time) -> Result<(), Failure<Refusal>> {
    let state = store.state();
    let settings = state.settings();
    let wanted = Settings {
        // Administrators open it for a time; no configuration does.
        rekey_window_until: settings.rekey_window_until,
        // It is the same on every node.
        attestation_mode: settings.attestation_mode,
        accept_next_boot_claims: settings.accept_next_boot_claims,
        key_caching: settings.key_caching,
        ..settings_of(config, settings.name.clone())
    };
    if *settings == wanted {
        return Ok(());
    }
    let act = Act::new(now, ACTOR);
    store.transact(vec![Transaction::SetSettings(wanted)], act)?;
    Ok(())
}

/// Brings a state that no other node shares to the newest level of the format that this program reads.
pub(crate) fn raise_level(store: &Store, now: Time) -> Result<(), Failure<Refusal>> {
    let (level, newest) = (store.state().level(), Levels::of_this_program().newest);
    if level >= newest {
        return Ok(());
    }
    let act = Act::new(now, "upgrade");
    store.transact(vec![Transaction::RaiseLevel(newest)], act)?;
    info!(
        level = %newest,
        "the state is at a newer level of the format from now on: no earlier version reads it"
    );
    Ok(())
}

impl ReleasePolicy {
    pub(crate) fn of(config: &Config) -> Self {
        let seconds = |duration: Duration| Seconds::new(duration.as_secs());
        Self {
            clock_skew: seconds(config.attestation.clock_skew),
        }
    }
}
