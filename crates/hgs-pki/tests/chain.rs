//! Paths to roots, made by `openssl` and judged by both.

mod common;

use std::slice;
use std::time::Duration;

use common::openssl::{AUTHORITY, LEAF, Openssl};
use common::{issue, key, now, ten_years};
use hgs_pki::chain::{self, ChainError, ConstrainedRoots, MAX_INTERMEDIATES};
use hgs_pki::issue::Issuer;
use hgs_pki::{
    Certificate, EXPIRY_NOTICE, Seconds, Time, TlsCertificate, Validity, ValidityStatus, pem,
    profile,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::anchor_from_trusted_cert;

fn day_after(certificate: &Certificate) -> Time {
    let begin = certificate.validity().not_before;
    begin.checked_add(Seconds::from_days(1)).unwrap()
}

#[test]
fn an_intermediate_connects_leaf_and_root() {
    let openssl = Openssl::new();
    let root = openssl.root("root");
    let intermediate = openssl.issued("intermediate", "root", AUTHORITY);
    let leaf = openssl.issued("leaf", "intermediate", &format!("{LEAF} -sha384"));
    let when = day_after(&leaf);
    let (roots, intermediates) = ([root.clone()], [intermediate.clone()]);
    assert_eq!(chain::verify(&leaf, &intermediates, &roots, when), Ok(()));
    let time = when.unix();
    openssl.run(&format!(
        "verify -attime {time} -CAfile root.pem -untrusted intermediate.pem leaf.pem"
    ));

    let refused = chain::verify(&leaf, &[], &roots, when);
    assert_eq!(refused, Err(ChainError::UnknownIssuer));
    let stranger = openssl.root("stranger");
    let refused = chain::verify(&leaf, &intermediates, &[stranger], when);
    assert_eq!(refused, Err(ChainError::UnknownIssuer));
    let namesake = openssl.root("root");
    let refused = chain::verify(&leaf, &intermediates, &[namesake], when);
    assert_eq!(refused, Err(ChainError::Signature));
    let refused = chain::verify(&leaf, &intermediates, &[], when);
    assert_eq!(refused, Err(ChainError::NoRoot(when)));
    // The root among the intermediates does not make it a root.
    let refused = chain::verify(&leaf, &[intermediate.clone(), root], &[], when);
    assert_eq!(refused, Err(ChainError::NoRoot(when)));
    // An intermediate that is configured as a root is one.
    assert_eq!(chain::verify(&leaf, &[], &[intermediate], when), Ok(()));
}

#[test]
fn every_certificate_of_the_path_must_be_valid_at_the_time() {
    let signer_key = key("signer");
    let validity = |first_day: u32, last_day: u32| Validity {
        not_before: now().checked_add(Seconds::from_days(first_day)).unwrap(),
        not_after: now().checked_add(Seconds::from_days(last_day)).unwrap(),
    };
    let template = profile::attestation_signer(validity(10, 40));
    let root = issue(template, &signer_key, Issuer::SelfSigned, &signer_key);
    let template = profile::host_key("node", validity(20, 50));
    let leaf = issue(
        template,
        &key("host"),
        Issuer::Certificate(&root),
        &signer_key,
    );
    let roots = [root.clone()];
    let at = |day: u32| {
        let when = now().checked_add(Seconds::from_days(day)).unwrap();
        (when, chain::verify(&leaf, &[], &roots, when))
    };
    assert_eq!(at(20).1, Ok(()));
    assert_eq!(at(40).1, Ok(()));
    assert_eq!(
        at(19).1,
        Err(ChainError::NotYetValid(leaf.validity().not_before))
    );
    let (when, refused) = at(41);
    assert_eq!(refused, Err(ChainError::NoRoot(when)));
    let early = Time::from_unix(-1);
    assert_eq!(
        chain::verify(&leaf, &[], &roots, early),
        Err(ChainError::Time(early))
    );

    let template = profile::attestation_signer(ten_years());
    let root = issue(template, &signer_key, Issuer::SelfSigned, &signer_key);
    let after = leaf
        .validity()
        .not_after
        .checked_add(Seconds::new(1))
        .unwrap();
    let refused = chain::verify(&leaf, &[], &[root], after);
    assert_eq!(refused, Err(ChainError::Expired(leaf.validity().not_after)));
}

#[test]
fn a_root_that_is_the_leaf_is_accepted_while_it_is_valid() {
    let key = key("own");
    let template = profile::guardian_signing("tenant", ten_years());
    let guardian = issue(template, &key, Issuer::SelfSigned, &key);
    let roots = [guardian.clone()];
    let Validity {
        not_before,
        not_after,
    } = guardian.validity();
    for when in [not_before, not_after] {
        assert_eq!(chain::verify(&guardian, &[], &roots, when), Ok(()));
    }
    let second = Seconds::new(1);
    let refused = chain::verify(
        &guardian,
        &[],
        &roots,
        not_before.checked_sub(second).unwrap(),
    );
    assert_eq!(refused, Err(ChainError::NotYetValid(not_before)));
    let refused = chain::verify(
        &guardian,
        &[],
        &roots,
        not_after.checked_add(second).unwrap(),
    );
    assert_eq!(refused, Err(ChainError::Expired(not_after)));

    // The same name and key is not the same certificate, and a leaf is not an issuer.
    let later = Validity {
        not_before: not_before.checked_add(second).unwrap(),
        not_after,
    };
    let template = profile::guardian_signing("tenant", later);
    let other = issue(template, &key, Issuer::SelfSigned, &key);
    let refused = chain::verify(&other, &[], &roots, not_after);
    assert_eq!(refused, Err(ChainError::NoRoot(not_after)));
}

#[test]
fn a_root_of_version_1_is_accepted_and_an_intermediate_is_not() {
    let root = Certificate::from_pem(include_str!("data/version-1.pem")).unwrap();
    let leaf = Certificate::from_pem(include_str!("data/below-version-1.pem")).unwrap();
    let when = day_after(&leaf);
    // Valid on the day of the fixtures, whatever day it is now.
    let other_key = key("other root");
    let template = profile::attestation_signer(leaf.validity());
    let other_root = issue(template, &other_key, Issuer::SelfSigned, &other_key);
    assert_eq!(
        chain::verify(&leaf, &[], slice::from_ref(&root), when),
        Ok(())
    );
    let refused = chain::verify(&leaf, &[root], &[other_root], when);
    assert_eq!(refused, Err(ChainError::Version1));
}

#[test]
fn issuers_must_be_authorities_by_constraints_and_by_usage() {
    let openssl = Openssl::new();
    let root = openssl.root("root");
    let roots = [root];
    for (options, expected) in [
        (LEAF, ChainError::IssuerNotAuthority),
        (
            "-addext basicConstraints=critical,CA:true -addext keyUsage=digitalSignature",
            ChainError::UnknownIssuer,
        ),
    ] {
        let issuer = openssl.issued("issuer", "root", options);
        let leaf = openssl.issued("leaf", "issuer", LEAF);
        let when = day_after(&leaf);
        let refused = chain::verify(&leaf, &[issuer], &roots, when);
        assert_eq!(refused, Err(expected), "{options}");
    }
    let authority = openssl.issued("authority", "root", AUTHORITY);
    let refused = chain::verify(&authority, &[], &roots, day_after(&authority));
    assert_eq!(refused, Err(ChainError::LeafIsAuthority));
}

#[test]
fn a_certificate_is_valid_to_the_second_and_its_end_is_announced() {
    let Validity {
        not_before,
        not_after,
    } = ten_years();
    let second = Seconds::new(1);
    let notice = not_after.checked_sub(EXPIRY_NOTICE).unwrap();
    for (when, status) in [
        (
            not_before.checked_sub(second).unwrap(),
            ValidityStatus::NotYetValid,
        ),
        (not_before, ValidityStatus::Valid),
        (notice, ValidityStatus::Valid),
        (
            notice.checked_add(second).unwrap(),
            ValidityStatus::ExpiresSoon,
        ),
        (not_after, ValidityStatus::ExpiresSoon),
        (
            not_after.checked_add(second).unwrap(),
            ValidityStatus::Expired,
        ),
    ] {
        assert_eq!(ten_years().status(when), status, "{when}");
    }
}

/// Who configures a root says that it is trusted, and not what its keys are for.
#[test]
fn roots_must_be_authorities_by_constraints_and_by_usage() {
    let openssl = Openssl::new();
    for options in [
        "-addext basicConstraints=critical,CA:true -addext keyUsage=digitalSignature",
        "-addext basicConstraints=critical,CA:false -addext keyUsage=keyCertSign",
    ] {
        let root = Certificate::from_der(&openssl.self_signed("root", options)).unwrap();
        openssl.write("root.pem", root.to_pem());
        let leaf = openssl.issued("leaf", "root", LEAF);
        let when = day_after(&leaf);
        let refused = chain::verify(&leaf, &[], &[root], when);
        assert_eq!(refused, Err(ChainError::NoRoot(when)), "{options}");
    }
}

#[test]
fn constraints_of_authorities_hold() {
    let openssl = Openssl::new();
    let root = openssl.root("root");
    let roots = [root];
    let short = openssl.issued(
        "short",
        "root",
        "-addext basicConstraints=critical,CA:true,pathlen:0",
    );
    let below = openssl.issued("below", "short", AUTHORITY);
    let leaf = openssl.issued("leaf", "below", LEAF);
    let refused = chain::verify(&leaf, &[short, below], &roots, day_after(&leaf));
    assert_eq!(refused, Err(ChainError::PathLength));

    let names = format!("{AUTHORITY} -addext nameConstraints=critical,permitted;DNS:example.org");
    let narrow = openssl.issued("narrow", "root", &names);
    let inside = openssl.issued(
        "inside",
        "narrow",
        "-addext subjectAltName=DNS:a.example.org",
    );
    let outside = openssl.issued(
        "outside",
        "narrow",
        "-addext subjectAltName=DNS:example.com",
    );
    let narrow = [narrow];
    assert_eq!(
        chain::verify(&inside, &narrow, &roots, day_after(&inside)),
        Ok(())
    );
    let refused = chain::verify(&outside, &narrow, &roots, day_after(&outside));
    assert_eq!(refused, Err(ChainError::NameConstraint));
}

#[test]
fn unknown_critical_extensions_and_weak_hashes_are_refused() {
    let openssl = Openssl::new();
    let root = openssl.root("root");
    let roots = [root];
    let unknown = "-addext 1.3.6.1.4.1.32473.9=critical,DER:0500";
    let leaf = openssl.issued("leaf", "root", unknown);
    let refused = chain::verify(&leaf, &[], &roots, day_after(&leaf));
    assert_eq!(refused, Err(ChainError::UnknownCriticalExtension));
    let refused = chain::verify(&leaf, &[], slice::from_ref(&leaf), day_after(&leaf));
    assert_eq!(refused, Err(ChainError::UnknownCriticalExtension));
    let leaf = openssl.issued("weak", "root", &format!("{LEAF} -sha1"));
    let refused = chain::verify(&leaf, &[], &roots, day_after(&leaf));
    assert_eq!(refused, Err(ChainError::UnsupportedAlgorithm));
}

#[test]
fn too_many_intermediates_are_refused_before_any_work() {
    let key = key("own");
    let template = profile::attestation_signer(ten_years());
    let signer = issue(template, &key, Issuer::SelfSigned, &key);
    let many = vec![signer.clone(); MAX_INTERMEDIATES + 1];
    let refused = chain::verify(&signer, &many, slice::from_ref(&signer), now());
    assert_eq!(refused, Err(ChainError::TooManyIntermediates(many.len())));
}

#[test]
fn namesakes_do_not_make_the_search_endless() {
    let openssl = Openssl::new();
    let namesakes: Vec<_> = (0..MAX_INTERMEDIATES)
        .map(|_| openssl.root("same"))
        .collect();
    let leaf = openssl.issued("leaf", "same", LEAF);
    let when = day_after(&leaf);
    let refused = chain::verify(&leaf, &namesakes, &[openssl.root("other")], when);
    assert_eq!(refused, Err(ChainError::TooDeep));
    let refused = chain::verify(&leaf, &namesakes, &[openssl.root("same")], when);
    assert_eq!(refused, Err(ChainError::TooManyPaths));
}

/// A certificate over a key on P-256, as TLS servers have, with its PEM beside it.
fn on_curve(openssl: &Openssl, name: &str, options: &str) -> Vec<u8> {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";
    let der = openssl.self_signed(name, &format!("{KEY} {options}"));
    openssl.write(&format!("{name}.pem"), pem::encode("CERTIFICATE", &der));
    der
}

fn below(issuer: &str, options: &str) -> String {
    format!("-CA {issuer}.pem -CAkey {issuer}.key {options}")
}

/// As TLS servers are configured: files have certificates in any order, and TLS wants them in one.
#[test]
fn certificates_are_put_in_the_order_of_their_issuers() {
    let openssl = Openssl::new();
    let root = on_curve(&openssl, "root", AUTHORITY);
    let intermediate = on_curve(&openssl, "intermediate", &below("root", AUTHORITY));
    let leaf = on_curve(&openssl, "leaf", &below("intermediate", LEAF));
    let stranger = on_curve(&openssl, "stranger", AUTHORITY);
    let unread = b"no certificate".to_vec();
    let given = [&stranger, &root, &unread, &leaf, &intermediate].map(Clone::clone);
    let expected = [&leaf, &intermediate, &root, &stranger, &unread].map(Clone::clone);
    assert_eq!(chain::in_order(given.to_vec(), 3), expected);
    // A root leads no further, and neither does what can't be read.
    let expected = [&root, &stranger, &unread, &leaf, &intermediate].map(Clone::clone);
    assert_eq!(chain::in_order(given.to_vec(), 1), expected);
    let expected = [&unread, &stranger, &root, &leaf, &intermediate].map(Clone::clone);
    assert_eq!(chain::in_order(given.to_vec(), 2), expected);
    assert_eq!(chain::in_order(given.to_vec(), given.len()), given);
    let namesakes = [&root, &stranger, &on_curve(&openssl, "root", AUTHORITY)].map(Clone::clone);
    assert_eq!(chain::in_order(namesakes.to_vec(), 0), namesakes);
}

/// TLS clients ask for the purpose of a server, and for what a root constrains that the library does not compare.
#[test]
fn the_certificate_of_a_tls_server_is_held_to_its_purpose_and_to_the_constraints_of_its_root() {
    let openssl = Openssl::new();
    let narrow = "-addext nameConstraints=critical,permitted;URI:example.org";
    let plain = on_curve(&openssl, "plain", AUTHORITY);
    let narrow = on_curve(&openssl, "narrow", &format!("{AUTHORITY} {narrow}"));
    let verified = |issuer: &str, options: &str| {
        let root = if issuer == "plain" { &plain } else { &narrow };
        let root = CertificateDer::from(root.as_slice());
        let mut known = ConstrainedRoots::default();
        known.add(anchor_from_trusted_cert(&root).unwrap()).unwrap();
        assert_eq!(known.anchors_lack_constraints(), issuer == "narrow");
        let leaf = on_curve(
            &openssl,
            "leaf",
            &below(issuer, &format!("{LEAF} {options}")),
        );
        let begin = Validity::of_any_certificate(&leaf).unwrap().not_before;
        let when = Duration::from_secs(u64::try_from(begin.unix()).unwrap());
        let (leaf, when) = (CertificateDer::from(leaf), UnixTime::since_unix_epoch(when));
        known.verify_tls_server(&leaf, &[], when, webpki::ALL_VERIFICATION_ALGS)
    };
    let server = "-addext extendedKeyUsage=serverAuth";
    assert_eq!(verified("plain", server), Ok(()));
    assert_eq!(verified("narrow", server), Ok(()));
    let client = verified("plain", "-addext extendedKeyUsage=clientAuth");
    assert!(matches!(client, Err(ChainError::Invalid(_))), "{client:?}");
    let at = |host: &str| format!("{server} -addext subjectAltName=URI:https://{host}/");
    assert_eq!(verified("plain", &at("example.com")), Ok(()));
    assert_eq!(verified("narrow", &at("example.org")), Ok(()));
    let outside = verified("narrow", &at("example.com"));
    assert!(
        matches!(outside, Err(ChainError::NameConstraint)),
        "{outside:?}"
    );
}

#[test]
fn a_tls_certificate_says_for_which_names_it_is() {
    let openssl = Openssl::new();
    let names = "-addext subjectAltName=DNS:a.example,IP:192.0.2.1,DNS:b.example";
    let read = |name: &str, options: &str| {
        TlsCertificate::from_der(&on_curve(&openssl, name, options)).unwrap()
    };
    let server = read("server", &format!("{LEAF} {names}"));
    assert_eq!(server.dns_names, ["a.example", "b.example"]);
    assert!(!server.is_certificate_authority);
    let authority = read("authority", AUTHORITY);
    assert!(authority.dns_names.is_empty());
    assert!(authority.is_certificate_authority);
}
