//! `hgs server show`: the settings in effect.

use std::fmt;

use hgs_server::admin::Administration as _;
use hgs_server::admin::types::ServerSettings;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, yes_or_no};
use crate::failures::OrFail as _;

/// Show the settings that are in effect in the running server
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

impl Arguments {
    pub(crate) fn run(self, server: ServerOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let settings = server.client()?.server().or_fail()?;
        terminal.report(&Settings(settings))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Settings(ServerSettings);

impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(settings) = self;
        let communications = settings.communications_certificate.as_ref();
        let caching = match settings.key_material_caching {
            true => format!(
                "for {} s, {} times",
                settings.key_material_caching_seconds, settings.key_material_caching_unwraps
            ),
            false => yes_or_no(false),
        };
        Table::of_pairs([
            ("Name", settings.name.clone()),
            ("Node", settings.node.clone()),
            ("State folder", settings.state_folder.clone()),
            ("Master key", settings.master_key_file.clone()),
            (
                "Health certificates",
                format!("valid for {} s", settings.health_certificate_seconds),
            ),
            ("Clock skew", format!("{} s", settings.clock_skew_seconds)),
            ("Hosts may keep key material", caching),
            (
                "Superseded protectors refused",
                yes_or_no(settings.refuse_superseded_protectors),
            ),
            (
                "Communications certificate",
                communications.map_or_else(
                    || "none".to_owned(),
                    |certificate| certificate.thumbprint.clone(),
                ),
            ),
        ])
        .fmt(formatter)?;
        for listener in &settings.listeners {
            writeln!(
                formatter,
                "listens for {} at {}",
                listener.name, listener.address
            )?;
        }
        for setting in &settings.dangerous_settings {
            writeln!(formatter, "warning: {setting} weakens verification")?;
        }
        Ok(())
    }
}
