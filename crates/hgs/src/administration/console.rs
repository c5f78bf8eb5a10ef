//! `hgs console`: signing in to the console, and who is signed in.

use std::fmt;

use clap::Subcommand;
use hgs_admin::types::{ConsoleSession, NewConsoleLink};
use hgs_admin::{Administration as _, Client, HostSelector};
use hgs_crypto::random::{self, System};
use hgs_crypto::{base64, hash, hex};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;
use zeroize::Zeroizing;

use super::ServerOption;
use crate::failures::OrFail as _;

/// Octets of the secret in a link.
const SECRET_OCTETS: usize = 32;

/// Print a link that signs in to the console in a browser
///
/// The link is a secret. It works once, within a minute, and signs in as whoever runs this, with the role that they have.
/// Compare the fingerprint with that of the certificate which the browser shows.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "The console is switched on in the configuration, under [listen.console].

Examples:
  hgs console
  hgs console --json
  hgs console sessions
  hgs console revoke 5f0c2a91"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List who is signed in
    Sessions,
    /// End a session at once
    Revoke {
        /// Its name, which `hgs console sessions` and the audit log show
        session: HostSelector,
    },
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            None => {
                let link = new_link(&client)?;
                terminal.report(&link)?;
                terminal.note("The link is a secret, works once, and within a minute.");
            }
            Some(Verb::Sessions) => {
                terminal.report(&Sessions(client.console_sessions().or_fail()?))?;
            }
            Some(Verb::Revoke { session }) => {
                let ended = client.revoke_console_session(&session).or_fail()?;
                terminal.report(&Sessions(vec![ended]))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// The server gets the digest of the secret, and sees the secret itself when a browser uses it.
fn new_link(client: &Client) -> Result<Link, Failure> {
    let secret: Zeroizing<[u8; SECRET_OCTETS]> = Zeroizing::new(random::array(&mut System::new())?);
    let secret = Zeroizing::new(base64::encode_url(&*secret));
    let request = NewConsoleLink {
        digest: hex::encode(&hash::sha256(secret.as_bytes())),
    };
    let made = client.new_console_link(&request).or_fail()?;
    Ok(Link {
        url: Zeroizing::new(made.url + &secret),
        fingerprint: made.fingerprint,
        expires: made.expires,
    })
}

/// A link, as it is printed.
#[derive(Serialize)]
struct Link {
    #[serde(serialize_with = "as_text")]
    url: Zeroizing<String>,
    fingerprint: String,
    expires: String,
}

fn as_text<S: serde::Serializer>(
    text: &Zeroizing<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl fmt::Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", *self.url)?;
        Table::of_pairs([
            ("Fingerprint", self.fingerprint.clone()),
            ("Expires", self.expires.clone()),
        ])
        .fmt(formatter)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Sessions(Vec<ConsoleSession>);

impl fmt::Display for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "SESSION",
            "USER",
            "WAY",
            "ROLES",
            "FROM",
            "SIGNED IN",
            "ENDS",
        ]);
        for session in &self.0 {
            let roles: Vec<_> = session.roles.iter().map(ToString::to_string).collect();
            table.row([
                session.session.clone(),
                session.user.clone(),
                session.way.to_string(),
                roles.join(", "),
                session.address.clone(),
                session.signed_in.clone(),
                session.ends.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}
