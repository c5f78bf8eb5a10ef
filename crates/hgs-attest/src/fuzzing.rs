//! Bodies of fuzz targets: any octets may come, and what is accepted must survive a second round.

use hgs_crypto::hash::Sha256Digest;
use hgs_pki::Time;

use crate::host_key::{HostRegistry, RegisteredHost, Verdict, evaluate};
use crate::wire::{Reply, Request};
use crate::{client, signing_certificates};

/// [`Request::parse`], and [`evaluate`] for a host that nobody registered.
///
/// # Panics
///
/// If a request is not read again as it was written, or if a stranger is found healthy.
pub fn fuzz_request(data: &[u8]) {
    if let Ok(request) = Request::parse(data) {
        assert_eq!(Request::parse(&request.to_json()), Ok(request));
    }
    match evaluate(data, &Nobody, Time::from_unix(0)) {
        Verdict::Healthy(_) => panic!("nobody is registered"),
        Verdict::Refused(refusal) => {
            let reply = refusal.reply();
            assert_eq!(Reply::parse(&reply.to_json()).as_ref(), Ok(&reply));
        }
    }
}

struct Nobody;

impl HostRegistry for Nobody {
    fn host_with_key(&self, _: &Sha256Digest) -> Option<RegisteredHost> {
        None
    }
}

/// [`Reply::parse`], as a host reads it.
///
/// # Panics
///
/// If a reply is not read again as it was written.
pub fn fuzz_reply(data: &[u8]) {
    if let Ok(reply) = Reply::parse(data) {
        assert_eq!(Reply::parse(&reply.to_json()), Ok(reply));
    }
    let _ = client::read_service_info(200, data);
}

/// [`signing_certificates::read`].
///
/// # Panics
///
/// If the certificates are not read again as they were written.
pub fn fuzz_signing_certificates(data: &[u8]) {
    let Ok(mut certificates) = signing_certificates::read(data) else {
        return;
    };
    let again = signing_certificates::read(&signing_certificates::write(&certificates));
    // They are a set: sorted, and none twice.
    certificates.sort_by(|a, b| a.der().cmp(b.der()));
    certificates.dedup();
    assert_eq!(again, Ok(certificates));
}
