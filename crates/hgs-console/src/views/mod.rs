//! The screens: functions from what the guardian answers to HTML.

use std::fmt::Display;

use hgs_admin::types::AttestationMode;
use serde::{Deserialize, Serialize};

pub(crate) mod certificate;
pub(crate) mod certificates;
pub(crate) mod document;
pub(crate) mod hosts;
mod judgement;
pub(crate) mod last_hour;
pub(crate) mod log;
pub(crate) mod machines;
pub(crate) mod overview;
pub(crate) mod policies;
pub mod problem;
pub(crate) mod sessions;
pub(crate) mod settings;
pub mod sign_in;
pub(crate) mod signers;
pub(crate) mod tenants;
#[cfg(test)]
mod tests;
pub(crate) mod waiting;

/// Which part of a list a page shows.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct After {
    /// Only what follows this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
}

/// What hosts are known by.
fn how_hosts_attest(mode: AttestationMode) -> &'static str {
    match mode {
        AttestationMode::Tpm => "their TPMs",
        AttestationMode::HostKey => "host keys",
        AttestationMode::ActiveDirectory => "groups of Active Directory",
    }
}

/// A number with its noun: `1 host`, `2 hosts`.
fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    match count == N::from(1) {
        true => format!("1 {noun}"),
        false => format!("{count} {noun}s"),
    }
}
