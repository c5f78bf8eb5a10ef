//! `hgs cluster invite`.

use std::fmt;

use hgs_admin::types::InviteNode;
use hgs_admin::{Administration as _, Client};
use hgs_cluster::invitation::Invitation;
use hgs_crypto::random::System;
use hgs_crypto::{hex, x25519};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::administration::ServerOption;
use crate::failures::OrFail as _;

/// Print an invitation, by which one more machine joins the cluster
///
/// It is a secret: who has it gets all keys of the guardian. It holds for 15 minutes and for one machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs cluster invite
  hgs cluster invite | ssh guardian-2 hgs cluster join - --address 192.0.2.2")]
pub(super) struct Arguments {
    #[command(flatten)]
    server: ServerOption,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let invited = invite(&self.server.client()?)?;
        if !terminal.json() {
            terminal.note(format_args!(
                "This invitation is a secret. It holds until {}, for one machine: `hgs cluster join INVITATION --address ADDRESS`.",
                invited.until
            ));
        }
        terminal.report(&invited)?;
        Ok(Exit::Done)
    }
}

/// An invitation, as it is printed.
#[derive(Serialize)]
pub(crate) struct Invited {
    #[serde(serialize_with = "as_text")]
    pub(crate) invitation: Zeroizing<String>,
    addresses: Vec<String>,
    until: String,
}

fn as_text<S: serde::Serializer>(
    text: &Zeroizing<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// Agrees with the server upon an invitation.
pub(crate) fn invite(client: &Client) -> Result<Invited, Failure> {
    let ours = x25519::PrivateKey::generate(&mut System::new())?;
    let request = InviteNode {
        public_key: hex::encode(&ours.public()?.0),
    };
    let made = client.invite_node(&request).or_fail()?;
    let strange =
        || Failure::failed("the server's answer is not an invitation").at_fault(AtFault::Guardian);
    let theirs = hex::decode(&made.public_key).and_then(|octets| octets.try_into().ok());
    let id = hex::decode(&made.id).and_then(|octets| octets.try_into().ok());
    let addresses: Result<Vec<_>, _> = made
        .addresses
        .iter()
        .map(|address| address.parse())
        .collect();
    let invitation = Invitation::agreed(
        &ours,
        &x25519::PublicKey(theirs.ok_or_else(strange)?),
        id.ok_or_else(strange)?,
        made.fingerprint.parse().map_err(|_| strange())?,
        addresses.map_err(|_| strange())?,
    )?;
    Ok(Invited {
        invitation: invitation.to_text(),
        addresses: made.addresses,
        until: made.until,
    })
}

impl fmt::Display for Invited {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", *self.invitation)
    }
}
