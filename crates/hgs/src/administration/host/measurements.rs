//! What only one host measures: `hgs host set`.

use std::path::Path;
use std::time::Duration;

use hgs_admin::types::{self, SetHostMeasurements};
use hgs_admin::{Administration as _, Client, HostSelector};
use hgs_attest::policy::HostMeasurements;
use hgs_pki::{Seconds, Time};
use hgs_terminal::Failure;

use super::super::document;
use crate::clock::now;
use crate::failures::OrFail as _;

/// Puts a document in the place of what the guardian has.
pub(super) fn replace(client: &Client, host: &HostSelector, file: &Path) -> Result<(), Failure> {
    let text = document::read(file)?;
    let kept = client.host_measurements(host).or_fail()?;
    set(client, host, &kept, text, file)
}

/// Adds what the host says that it boots next; it is accepted for `period`, unless the host boots it.
pub(super) fn add_next_boot(
    client: &Client,
    host: &HostSelector,
    file: &Path,
    period: Duration,
) -> Result<(), Failure> {
    let refused = |error| Failure::refused(error).while_doing(file.display());
    let claim = HostMeasurements::from_json(document::read(file)?.as_bytes()).map_err(refused)?;
    let kept = client.host_measurements(host).or_fail()?;
    let own = kept
        .text
        .as_ref()
        .map(|text| HostMeasurements::from_json(text.as_bytes()));
    let own = own.transpose().map_err(refused)?.unwrap_or_default();
    let period = Seconds::new(period.as_secs());
    let expires = now().checked_add(period).unwrap_or(Time::MAX);
    let accepted = own
        .accept_claim(&claim, &kept.host, expires)
        .map_err(refused)?;
    set(client, host, &kept, accepted.to_json(), file)
}

/// Changes what was read, if it is still that.
fn set(
    client: &Client,
    host: &HostSelector,
    kept: &types::HostMeasurements,
    text: String,
    file: &Path,
) -> Result<(), Failure> {
    let none = || "none".to_owned();
    let change = SetHostMeasurements {
        text: Some(text),
        expected: Some(kept.digest.clone().unwrap_or_else(none)),
    };
    let changed = client.set_host_measurements(host, &change).or_fail();
    changed
        .map(drop)
        .map_err(|failure| failure.while_doing(file.display()))
}
