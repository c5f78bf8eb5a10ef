//! `guarded-host configure`.

use std::path::absolute;

use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::url::Url;

use crate::args::Configure;
use crate::failure::Failure;
use crate::{Context, status};

pub(crate) fn run(context: &Context, arguments: Configure) -> Result<(), Failure> {
    let configuration = configuration(arguments)?;
    configuration.check()?;
    configuration.store(&context.folders()?.configuration)?;
    status::run(context)
}

fn configuration(arguments: Configure) -> Result<Configuration, Failure> {
    let Configure {
        attestation_url,
        key_protection_url,
        fallback_attestation_url,
        fallback_key_protection_url,
        ca,
        local: _,
    } = arguments;
    let Some(primary) = pair(attestation_url, key_protection_url) else {
        return Ok(Configuration::Local);
    };
    Ok(Configuration::HostGuardianService(Services {
        primary,
        fallback: pair(fallback_attestation_url, fallback_key_protection_url),
        certificate_authorities: match ca {
            Some(file) => Some(absolute(file).map_err(Failure::Output)?),
            None => None,
        },
    }))
}

/// The grammar has seen to it that there are both or neither.
fn pair(attestation: Option<Url>, key_protection: Option<Url>) -> Option<Endpoints> {
    Some(Endpoints {
        attestation: attestation?,
        key_protection: key_protection?,
    })
}
