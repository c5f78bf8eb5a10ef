//! `guarded-host host-key`.

use hgs_client::host_key::{HostKeySize, PublicForm};
use hgs_crypto::hex;
use hgs_crypto::rsa::PublicKey;
use serde::Serialize;

use crate::Context;
use crate::args::{Bits, HostKey};
use crate::failure::Failure;
use crate::output::{confirm, pairs};

/// The public half of a host key.
#[derive(Debug, Serialize)]
struct Document {
    sha256: String,
    bits: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pem: Option<String>,
}

impl Document {
    fn new(key: &PublicKey, pem: Option<String>) -> Self {
        Self {
            sha256: hex::encode(key.digest()),
            bits: key.modulus_bits(),
            pem,
        }
    }
}

pub(crate) fn run(context: &Context, command: HostKey) -> Result<(), Failure> {
    match command {
        HostKey::New { bits } => new(context, bits),
        HostKey::Export { certificate } => export(context, certificate),
        HostKey::Remove => remove(context),
    }
}

fn new(context: &Context, bits: Bits) -> Result<(), Failure> {
    let size = match bits {
        Bits::Rsa2048 => HostKeySize::Rsa2048,
        Bits::Rsa3072 => HostKeySize::Rsa3072,
    };
    let key = context.host()?.create_host_key(size)?;
    let document = Document::new(key.public(), None);
    context.output.result(&document, || {
        pairs([
            ("HostKey", Some(document.sha256.clone())),
            ("Bits", Some(document.bits.to_string())),
        ])
    })
}

fn export(context: &Context, certificate: bool) -> Result<(), Failure> {
    let host = context.host()?;
    let key = host.host_key()?;
    let form = if certificate {
        PublicForm::Certificate
    } else {
        PublicForm::SubjectPublicKeyInfo
    };
    let name = rustix::system::uname();
    let pem = key.export(form, &name.nodename().to_string_lossy(), host.now())?;
    let document = Document::new(key.public(), Some(pem.clone()));
    context.output.result(&document, || pem)
}

fn remove(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let key = host.host_key()?;
    confirm(
        "Remove the host key by which the guardian knows this host?",
        context.global.yes,
    )?;
    host.remove_host_key()?;
    let document = Document::new(key.public(), None);
    context.output.result(&document, || {
        pairs([("Removed", Some(document.sha256.clone()))])
    })
}
