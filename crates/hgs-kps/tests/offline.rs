//! Offline use: section 13 of the protocol profile.

mod common;

use std::num::NonZeroU32;

use common::{Member, Service, guardian, pending, protector, receive, transport_key};
use hgs_kps::offline_report::{OfflineReport, OfflineReportError};
use hgs_kps::wire::Algorithms;
use hgs_kps::{Code, PendingRoll, Reason, ServiceVersion};
use hgs_pki::Certificate;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_protector::{TransportKey, VerifiedProtector};
use hgs_testkit::fixtures::Host;

const POLICY: CachingPolicy = CachingPolicy {
    max_offline_unwraps: 5,
    expiry: 1_800_000_000,
};

fn service() -> Service {
    Service {
        caching: Some(POLICY),
        ..Service::new(&[Member::fabric("fabric").head()])
    }
}

fn ingress() -> VerifiedProtector {
    protector(guardian("owner"), &[guardian("fabric")])
}

#[test]
fn only_hosts_with_tpms_may_keep_keys_and_the_facts_say_so() {
    let (service, ingress, host) = (service(), ingress(), Host::numbered(0));
    let by_host_key = pending(&ingress, &host, ServiceVersion::V2);
    let release = service.release(&by_host_key.request(), ServiceVersion::V2);
    assert_eq!(release.unwrap().facts().caching, None);
    let answer = service.answer(&by_host_key.request(), ServiceVersion::V2);
    assert_eq!(receive(&by_host_key, &host, &answer.unwrap()).caching, None);

    for (version, expected) in [
        (ServiceVersion::V1, None),
        (ServiceVersion::V2, Some(POLICY)),
    ] {
        let certificate = host.healthy_by_tpm();
        let by_tpm = PendingRoll::new(ingress.clone(), certificate, Algorithms::default(), version);
        let release = service.release(&by_tpm.request(), version).unwrap();
        assert_eq!(release.facts().caching, expected);
        let answer = service.answer(&by_tpm.request(), version).unwrap();
        assert_eq!(receive(&by_tpm, &host, &answer).caching, expected);
    }
}

#[test]
fn a_report_counts_if_it_is_of_this_host_protector_and_key() {
    let (service, ingress, host) = (service(), ingress(), Host::numbered(0));
    let certificate = host.healthy_by_tpm();
    let request = |certificate: &Certificate| {
        let (ingress, certificate) = (ingress.clone(), certificate.clone());
        PendingRoll::new(
            ingress,
            certificate,
            Algorithms::default(),
            ServiceVersion::V2,
        )
        .request()
    };
    let count = NonZeroU32::new(3).unwrap();
    let of = |key: &TransportKey, protector: &VerifiedProtector, certificate: &Certificate| {
        OfflineReport::new(count, key, &protector.digest(), certificate).unwrap()
    };
    let release = |report: OfflineReport, certificate: &Certificate| {
        // As it comes out of a header field.
        let report = OfflineReport::read(&[report.value().as_bytes()]).unwrap();
        let mut keys = &service.keys;
        let version = ServiceVersion::V2;
        service.release_reported(&request(certificate), version, report, &mut keys)
    };
    let good = of(&transport_key(), &ingress, &certificate);
    let released = release(good.clone(), &certificate).unwrap();
    assert_eq!(released.facts().offline_unwraps, Some(count));

    let rolled = service.power_on(&ingress).unwrap();
    let other_host = Host::numbered(1).healthy_by_tpm();
    let changed = good.value().replacen('3', "2", 1);
    let changed = OfflineReport::read(&[changed.as_bytes()]).unwrap().unwrap();
    for report in [
        of(&rolled.egress_key, &ingress, &certificate),
        of(&transport_key(), &rolled.egress, &certificate),
        of(&transport_key(), &ingress, &other_host),
        changed,
    ] {
        let refusal = release(report, &certificate).unwrap_err();
        assert_eq!(
            *refusal.reason(),
            Reason::OfflineReport(OfflineReportError::NotAuthentic)
        );
        assert_eq!(refusal.code(), Code::InvalidRequest);
    }
}

/// Whether its MAC is right, the judge in Python says, which reports to a server that runs.
#[test]
fn a_report_has_one_form() {
    let certificate = Host::numbered(0).healthy_by_tpm();
    let ingress = ingress();
    let count = NonZeroU32::new(12).unwrap();
    let report =
        OfflineReport::new(count, &transport_key(), &ingress.digest(), &certificate).unwrap();
    let value = report.value();
    assert!(value.starts_with("12;mac=:") && value.ends_with("=:"));
    assert_eq!(OfflineReport::read(&[]), Ok(None));
    assert_eq!(OfflineReport::read(&[value.as_bytes()]), Ok(Some(report)));
    let twice = [value.as_bytes(), value.as_bytes()];
    assert_eq!(OfflineReport::read(&twice), Err(OfflineReportError::Form));
    let mac = value.strip_prefix("12").unwrap();
    for other in [
        String::new(),
        "12".to_owned(),
        format!("012{mac}"),
        format!("+12{mac}"),
        format!("0{mac}"),
        format!("4294967296{mac}"),
        format!(" {value}"),
        format!("{value} "),
        value.replace(";mac", "; mac"),
        value.replace("=:", ":"),
        format!("12;mac=:{}:", hgs_crypto::base64::encode(&[0; 31])),
        format!("{value}\u{e9}"),
    ] {
        let read = OfflineReport::read(&[other.as_bytes()]);
        assert_eq!(read, Err(OfflineReportError::Form), "{other:?}");
    }
    assert_eq!(
        OfflineReport::read(&[&[0xff]]),
        Err(OfflineReportError::Form)
    );
}
