//! The keys of one end for one migration: made for it, and forgotten with it.

use hgs_client::Fault;
use hgs_crypto::random::System;
use hgs_custody::{PrivateKey as _, SoftwareKey, certify, pem};
use hgs_pki::issue::{Issuer, Template};
use hgs_pki::{Certificate, Time, Validity, profile};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::proof::Side;
use crate::wire::AgentFailure;

/// The name in the certificate of the destination's QEMU.
pub(crate) const DESTINATION_NAME: &str = "destination.migration";
const SOURCE_NAME: &str = "source.migration";
const BITS: usize = 2048;
/// The keys live as long as a migration does. No clock has a part in that.
const VALIDITY: Validity = Validity {
    not_before: Time::from_unix(0),
    not_after: Time::MAX,
};

/// An authority for one end of one migration. Its own certificate is the one of the channel, so what it issues is as much the
/// other end's as the channel is.
pub(crate) struct Authority {
    key: SoftwareKey,
    certificate: Certificate,
}

/// Certificate and key of a QEMU, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: zeroize::Zeroizing<String>,
}

fn failed(error: impl std::fmt::Display) -> AgentFailure {
    AgentFailure::failed(format_args!("no keys for the migration: {error}"))
        .at_fault(Fault::Ourselves)
}

impl Authority {
    /// Makes one. It takes some tenths of a second.
    pub(crate) fn new() -> Result<Self, AgentFailure> {
        let template = profile::migration_authority(VALIDITY);
        let (certificate, key) = hgs_custody::self_signed(template, BITS).map_err(failed)?;
        Ok(Self { key, certificate })
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Issues what the QEMU of this end has to show to the other one.
    pub(crate) fn issue(&self, side: Side) -> Result<Issued, AgentFailure> {
        let (name, purpose) = match side {
            Side::Source => (SOURCE_NAME, profile::CLIENT_AUTHENTICATION),
            Side::Destination => (DESTINATION_NAME, profile::SERVER_AUTHENTICATION),
        };
        let template = Template {
            extended_key_usage: vec![purpose],
            ..profile::communications(&[name], VALIDITY).map_err(failed)?
        };
        let key = SoftwareKey::generate(BITS).map_err(failed)?;
        let issuer = Issuer::Certificate(&self.certificate);
        let certificate = certify(template, key.public(), issuer, &self.key);
        Ok(Issued {
            certificate: certificate.map_err(failed)?.to_pem(),
            key: pem::write_private_key(&key, None, &mut System::new()).map_err(failed)?,
        })
    }

    /// What rustls wants.
    pub(super) fn for_tls(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AgentFailure> {
        let text = pem::write_private_key(&self.key, None, &mut System::new()).map_err(failed)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(failed)?;
        let certificate = CertificateDer::from(self.certificate.der().to_vec());
        Ok((vec![certificate], key))
    }
}
