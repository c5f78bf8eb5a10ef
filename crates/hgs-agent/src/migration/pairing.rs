//! Two hosts become sure of each other, and of having the same VM's keys. Nothing of the VM's memory, disk or TPM moves here.
//!
//! In this order, each step after the other end's was checked: health certificates; the protector, with what is sealed
//! under it, and the source's proof; the destination's own release of that protector, and its proof.

use hgs_client::service::Sides;
use std::sync::Arc;

use hgs_client::{Fault, GuardedHost};
use hgs_pki::health::{
    self, HealthCertificate, HealthKind, TrustedSigner, TrustedSigners, VerifiedHealthCertificate,
};
use hgs_pki::{Certificate, CertificateCache, Time};
use hgs_protector::{Protector, ProtectorDigest};
use hgs_vm::description::Description;
use hgs_vm::generation::Generation;
use tokio::net::TcpStream;

use super::authority::Authority;
use super::channel::{Channel, Ends};
use super::message::{
    Acceptance, Answer, Carrier, Greeting, LIMIT, OFFER_LIMIT, Octets, Offer, Opening, VERSION,
};
use super::proof::{ProofKey, Side, Transcript};
use crate::failure::blocking;
use crate::wire::AgentFailure;

/// What a host shows, and by what it judges another one.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    health_certificate: Certificate,
    signers: TrustedSigners,
    now: Time,
}

/// The VM that a source offers.
#[derive(Debug, Clone)]
pub(crate) struct OfferedVm {
    /// `vm.toml`.
    pub(crate) description: String,
    /// The protector of its current generation.
    pub(crate) protector: Vec<u8>,
    /// The digest of that.
    pub(crate) digest: ProtectorDigest,
    /// What its owner decided, sealed under the same transport key.
    pub(crate) protection: Vec<u8>,
    /// The key of its swtpm, sealed in the same way, where that is not derived from the transport key.
    pub(crate) migration_key: Option<Vec<u8>>,
    /// Who moves it.
    pub(crate) carrier: Carrier,
}

impl OfferedVm {
    /// The VM with the state of a generation, which is its current one.
    pub(crate) fn of(
        description: &Description,
        generation: &Generation,
        carrier: Carrier,
    ) -> Result<Self, AgentFailure> {
        let protector = generation.protector()?;
        let unverified = Protector::read(&protector, &CertificateCache::new(0));
        Ok(Self {
            description: description.to_toml(),
            digest: unverified.map_err(hgs_client::Error::from)?.digest(),
            protector,
            protection: generation.protection()?,
            migration_key: generation.migration_key()?,
            carrier,
        })
    }
}

/// Two hosts that are sure of each other.
pub(crate) struct Paired {
    /// Their connection.
    pub(crate) channel: Channel,
    /// Of this end, for QEMU's own TLS.
    pub(crate) authority: Arc<Authority>,
    /// Of the other end.
    pub(crate) peer_authority: Certificate,
    /// What the other end's attestation service says of it.
    pub(crate) peer: VerifiedHealthCertificate,
}

/// A connection that came from elsewhere. Nothing is known of who made it.
pub(crate) struct Arrival {
    channel: Channel,
    authority: Arc<Authority>,
    ends: Ends,
}

/// A VM that another host offers, before that has proved anything.
pub(crate) struct IncomingOffer {
    channel: Channel,
    authority: Arc<Authority>,
    ends: Ends,
    peer: VerifiedHealthCertificate,
    offer: Offer,
}

impl Credentials {
    /// Those of a host that is healthy now. The signers are those that its own attestation service lists now.
    pub(crate) async fn of(host: &GuardedHost) -> Result<Self, AgentFailure> {
        let attestation = host
            .keep_attested(HealthKind::Encryption, Sides::Both)
            .await?;
        let listed = host.signing_certificates().await?;
        Ok(Self {
            health_certificate: attestation.certificate,
            signers: TrustedSigners::new(listed.into_iter().map(TrustedSigner::own).collect()),
            now: host.now(),
        })
    }

    fn greeting(&self) -> Greeting {
        Greeting {
            version: VERSION,
            health_certificate: Octets(self.health_certificate.der().to_vec()),
        }
    }

    fn check(&self, greeting: &Greeting) -> Result<VerifiedHealthCertificate, AgentFailure> {
        let Greeting {
            version,
            health_certificate: Octets(der),
        } = greeting;
        if *version != VERSION {
            return Err(AgentFailure::refused(format_args!(
                "the other host speaks version {version} of the migration protocol; this one knows version {VERSION}"
            ))
            .at_fault(Fault::Operator));
        }
        let certificate = HealthCertificate::from_der(der).map_err(not_attested)?;
        certificate
            .verify(
                &self.signers,
                HealthKind::Encryption,
                self.now,
                health::BACKDATED,
            )
            .map_err(not_attested)
    }
}

fn not_attested(error: impl std::fmt::Display) -> AgentFailure {
    AgentFailure::refused(format_args!(
        "the other host shows no valid health certificate: {error}"
    ))
    .at_fault(Fault::Host)
    .remedy("both hosts must be attested by services that know each other's signers; `guarded-host status` on both shows how they stand")
}

/// As the source: connects the two hosts by `stream`, and offers a VM whose keys are `keys`.
pub(crate) async fn offer(
    stream: TcpStream,
    credentials: &Credentials,
    vm: &OfferedVm,
    keys: &ProofKey,
) -> Result<Paired, AgentFailure> {
    let authority = Arc::new(blocking(Authority::new).await?);
    let (mut channel, ends) = Channel::connect(stream, &authority).await?;
    channel
        .send(&Opening::Offer(credentials.greeting()))
        .await?;
    let greeting = answered(channel.receive(LIMIT).await?)?;
    let peer = match credentials.check(&greeting) {
        Ok(peer) => peer,
        Err(failure) => return Err(refuse(&mut channel, failure).await),
    };
    let transcript = Transcript::new(
        ends.exporter,
        authority.certificate().der(),
        ends.peer.der(),
        vm.digest,
    );
    let proof = keys.prove(Side::Source, &transcript);
    channel
        .send(&Answer::Done(Offer {
            description: vm.description.clone(),
            protector: Octets(vm.protector.clone()),
            protection: Octets(vm.protection.clone()),
            migration_key: vm.migration_key.clone().map(Octets),
            carrier: vm.carrier.clone(),
            proof: Octets(proof.to_vec()),
        }))
        .await?;
    let Acceptance {
        proof: Octets(proof),
    } = answered(channel.receive(LIMIT).await?)?;
    if let Err(wrong) = keys.verify(Side::Destination, &transcript, &proof) {
        let failure = AgentFailure::refused(wrong).at_fault(Fault::Host);
        return Err(refuse(&mut channel, failure).await);
    }
    Ok(Paired {
        channel,
        authority,
        peer_authority: ends.peer,
        peer,
    })
}

impl Arrival {
    /// Has who connected say what for. An authority may serve strangers one after the other, until one of them is none.
    pub(crate) async fn receive(
        stream: TcpStream,
        authority: Arc<Authority>,
    ) -> Result<(Self, Opening), AgentFailure> {
        let (mut channel, ends) = Channel::accept(stream, &authority).await?;
        let opening = channel.receive(LIMIT).await?;
        let arrival = Self {
            channel,
            authority,
            ends,
        };
        Ok((arrival, opening))
    }

    /// Goes on with a source that has greeted, as the destination, and reads what it offers.
    pub(crate) async fn offer(
        mut self,
        greeting: &Greeting,
        credentials: &Credentials,
    ) -> Result<IncomingOffer, AgentFailure> {
        let channel = &mut self.channel;
        let peer = match credentials.check(greeting) {
            Ok(peer) => peer,
            Err(failure) => return Err(refuse(channel, failure).await),
        };
        channel.send(&Answer::Done(credentials.greeting())).await?;
        let offer = answered(channel.receive(OFFER_LIMIT).await?)?;
        Ok(IncomingOffer {
            channel: self.channel,
            authority: self.authority,
            ends: self.ends,
            peer,
            offer,
        })
    }

    /// The connection, to answer something else.
    pub(crate) fn into_channel(self) -> Channel {
        self.channel
    }
}

impl IncomingOffer {
    /// What is offered. Nothing of it is proved yet.
    pub(crate) fn unverified(&self) -> &Offer {
        &self.offer
    }

    /// Goes on with the keys of a release of the offered protector, which this host got for itself.
    pub(crate) async fn accept(
        mut self,
        keys: &ProofKey,
        protector: ProtectorDigest,
    ) -> Result<Paired, AgentFailure> {
        let transcript = Transcript::new(
            self.ends.exporter,
            self.ends.peer.der(),
            self.authority.certificate().der(),
            protector,
        );
        let Octets(proof) = &self.offer.proof;
        if let Err(wrong) = keys.verify(Side::Source, &transcript, proof) {
            let failure = AgentFailure::refused(wrong).at_fault(Fault::Host);
            return Err(refuse(&mut self.channel, failure).await);
        }
        let proof = keys.prove(Side::Destination, &transcript);
        let acceptance = Acceptance {
            proof: Octets(proof.to_vec()),
        };
        self.channel.send(&Answer::Done(acceptance)).await?;
        Ok(Paired {
            channel: self.channel,
            authority: self.authority,
            peer_authority: self.ends.peer,
            peer: self.peer,
        })
    }

    /// Tells the source why not.
    pub(crate) async fn refuse(mut self, failure: AgentFailure) -> AgentFailure {
        refuse(&mut self.channel, failure).await
    }
}

/// Tells the other end why it goes no further. What it makes of that is its business.
pub(crate) async fn refuse(channel: &mut Channel, failure: AgentFailure) -> AgentFailure {
    let _ = channel.send(&Answer::<()>::Failed(failure.clone())).await;
    failure
}

/// What the other end answered, or its failure in its own words.
pub(crate) fn answered<T>(answer: Answer<T>) -> Result<T, AgentFailure> {
    match answer {
        Answer::Done(answer) => Ok(answer),
        Answer::Failed(failure) => Err(AgentFailure {
            message: format!("the other host says: {}", failure.message),
            ..failure
        }),
    }
}

#[cfg(test)]
mod tests;
