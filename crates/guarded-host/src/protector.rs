//! `guarded-host protector`: what a start of a virtual machine does, by hand and with any file.

use std::path::{Path, PathBuf};

use hgs_client::files::{self, Readers};
use hgs_client::sealed_file;
use hgs_client::service::Side;
use hgs_client::{MAX_PROTECTOR, SealedPair, Unwrapped};
use hgs_crypto::SecretBytes;
use hgs_kps::ServiceVersion;
use hgs_protector::transport_key_blob::CachingPolicy;
use serde::Serialize;

use crate::args::{Protector, ProtocolVersion, Seal, Unwrap};
use crate::failure::Failure;
use crate::output::pairs;
use crate::{Context, wait_for};

/// A release, without its keys.
#[derive(Debug, Serialize)]
struct Document {
    ingress: String,
    egress: String,
    side: Side,
    key_protection_url: String,
    max_offline_unwraps: Option<u32>,
    recovered: bool,
    opened: Option<PathBuf>,
    resealed: Option<PathBuf>,
    sealed: Option<PathBuf>,
}

impl Document {
    fn new(unwrapped: &Unwrapped) -> Self {
        let caching = unwrapped.caching();
        Self {
            ingress: unwrapped.ingress().digest().to_string(),
            egress: unwrapped.egress().digest().to_string(),
            side: unwrapped.side(),
            key_protection_url: unwrapped.key_protection().to_string(),
            max_offline_unwraps: caching.map(|policy: CachingPolicy| policy.max_offline_unwraps),
            recovered: false,
            opened: None,
            resealed: None,
            sealed: None,
        }
    }

    fn text(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let mut rows = vec![
            ("IngressProtector", Some(self.ingress.clone())),
            ("EgressProtector", Some(self.egress.clone())),
            (
                "ReleasedBy",
                Some(format!("{} ({})", self.key_protection_url, self.side)),
            ),
        ];
        if self.recovered {
            let what = "an interrupted replacement was finished first";
            rows.push(("Recovered", Some(what.to_owned())));
        }
        for (name, value) in [
            ("Opened", path(&self.opened)),
            ("Resealed", path(&self.resealed)),
            ("Sealed", path(&self.sealed)),
        ] {
            if value.is_some() {
                rows.push((name, value));
            }
        }
        pairs(rows)
    }
}

pub(crate) fn run(context: &Context, command: Protector) -> Result<(), Failure> {
    let document = match command {
        Protector::Unwrap(arguments) => unwrap(context, arguments)?,
        Protector::Seal(arguments) => seal(context, &arguments)?,
    };
    context.output.report(&document, || document.text())
}

fn unwrap(context: &Context, arguments: Unwrap) -> Result<Document, Failure> {
    let Unwrap {
        protector,
        file,
        reseal,
        protocol_version,
    } = arguments;
    let Some(file) = file else {
        let octets = files::read(&protector, MAX_PROTECTOR)?;
        return Ok(Document::new(&release(context, &octets, protocol_version)?));
    };
    let out = context.output.file();
    if out.is_none() && !reseal {
        let message = "give --out FILE to open the file, --reseal to seal it anew, or both";
        return Err(Failure::Usage(message.to_owned()));
    }
    let pair = SealedPair::open(&protector, &file)?;
    let unwrapped = release(context, pair.protector(), protocol_version)?;
    let plaintext = unwrapped.open(pair.file())?;
    let mut document = Document::new(&unwrapped);
    document.recovered = pair.was_recovered();
    if let Some(out) = out {
        files::create(out, plaintext.expose(), Readers::Owner)?;
        document.opened = Some(out.clone());
    }
    if reseal {
        let sealed = unwrapped.reseal(&plaintext)?;
        pair.replace(unwrapped.egress(), &sealed)?;
        document.resealed = Some(file);
    }
    Ok(document)
}

fn seal(context: &Context, arguments: &Seal) -> Result<Document, Failure> {
    let Some(out) = context.output.file() else {
        return Err(Failure::Usage(
            "give --out FILE for the sealed file".to_owned(),
        ));
    };
    let protector = files::read(&arguments.protector, MAX_PROTECTOR)?;
    let plaintext = read_plaintext(&arguments.file)?;
    let unwrapped = release(context, &protector, arguments.protocol_version)?;
    let sealed = unwrapped.seal(&plaintext)?;
    files::create(out, &sealed, Readers::Owner)?;
    Ok(Document {
        sealed: Some(out.clone()),
        ..Document::new(&unwrapped)
    })
}

fn read_plaintext(path: &Path) -> Result<SecretBytes, Failure> {
    let octets = files::read(path, sealed_file::MAX_PLAINTEXT)?;
    Ok(SecretBytes::new(octets))
}

fn release(
    context: &Context,
    protector: &[u8],
    version: ProtocolVersion,
) -> Result<Unwrapped, Failure> {
    let version = match version {
        ProtocolVersion::V1 => ServiceVersion::V1,
        ProtocolVersion::V2 => ServiceVersion::V2,
    };
    let host = context.host()?;
    wait_for(host.unwrap(protector, version))
}
