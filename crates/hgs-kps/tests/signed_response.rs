//! Signed responses: section 10 of the protocol profile, against the judge in Python and against whoever stands on the way.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{guardian, random};
use hgs_crypto::base64;
use hgs_kps::signed_response::{
    Nonce, RESPONSE_KEY_LIFETIME, RESPONSE_KEY_SKEW, ResponseFields, ResponseSignatureError,
    ResponseSigner, SignatureRequest, SignatureRequestError,
};
use hgs_pki::{Certificate, Seconds, Time};
use hgs_testkit::fixtures::{Keys, now};
use proptest::prelude::*;

const REQUEST: &[u8] = b"<RollTransportKeyRequest/>";
const BODY: &[u8] = b"<RollTransportKeyResponse/>";

fn asked() -> SignatureRequest {
    SignatureRequest::new(Nonce::random(&mut random()).unwrap(), REQUEST)
}

fn signer() -> ResponseSigner {
    let fabric = guardian("fabric");
    let keys = Keys::of(&[fabric]);
    ResponseSigner::delegated_by(&fabric.signing, now(), &mut &keys, &mut random()).unwrap()
}

fn later(seconds: Seconds) -> Time {
    now().checked_add(seconds).unwrap()
}

/// The fields as they come out of HTTP.
fn read(fields: &[(String, String)]) -> Result<ResponseFields, ResponseSignatureError> {
    ResponseFields::read(|name| {
        let values = fields.iter().filter(|(given, _)| given == name);
        values.map(|(_, value)| value.as_bytes()).collect()
    })
}

fn sent(fields: &ResponseFields) -> Vec<(String, String)> {
    let values = fields.values().into_iter();
    values
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn a_request_is_read_as_it_was_made_and_in_no_other_form() {
    let asked = asked();
    let (accept, digest) = (asked.accept_signature(), asked.content_digest());
    let read = |accept: &[&str], digest: &[&str], body: &[u8]| {
        let accept: Vec<&[u8]> = accept.iter().map(|text| text.as_bytes()).collect();
        let digest: Vec<&[u8]> = digest.iter().map(|text| text.as_bytes()).collect();
        SignatureRequest::read(&accept, &digest, body)
    };
    assert_eq!(read(&[&accept], &[&digest], REQUEST), Ok(Some(asked)));
    // A host that does not ask may send any digest.
    assert_eq!(read(&[], &[], REQUEST), Ok(None));
    assert_eq!(read(&[], &["sha-512=:AA==:"], REQUEST), Ok(None));

    let refused = Err(SignatureRequestError::AcceptSignature);
    assert_eq!(read(&[&accept, &accept], &[&digest], REQUEST), refused);
    for (from, to) in [
        ("openhgs=", "sig1="),
        ("openhgs=", "openhgs= "),
        (" \"content-digest\";req", ""),
        (";created", ""),
        (";created", ";created;expires"),
        ("openhgs-response", "openhgs"),
        ("nonce=\"", "nonce=\"A"),
        ("\";tag", ";tag"),
    ] {
        let other = accept.replacen(from, to, 1);
        assert_ne!(other, accept);
        assert_eq!(read(&[&other], &[&digest], REQUEST), refused, "{other}");
    }
    let refused = Err(SignatureRequestError::ContentDigest);
    assert_eq!(read(&[&accept], &[], REQUEST), refused);
    assert_eq!(read(&[&accept], &[&digest, &digest], REQUEST), refused);
    let two = format!("{digest}, {digest}");
    assert_eq!(read(&[&accept], &[&two], REQUEST), refused);
    let refused = Err(SignatureRequestError::OtherContent);
    assert_eq!(read(&[&accept], &[&digest], BODY), refused);
}

/// The key is used for a day, and the delegation is valid a little longer, for clocks that are apart.
#[test]
fn a_response_key_lives_for_a_day() {
    let (signer, asked) = (signer(), asked());
    assert!(signer.is_current(now()));
    assert!(signer.is_current(later(Seconds::new(RESPONSE_KEY_LIFETIME.get() - 1))));
    assert!(!signer.is_current(later(RESPONSE_KEY_LIFETIME)));
    // The clock was set back.
    assert!(!signer.is_current(now().checked_sub(Seconds::new(1)).unwrap()));

    let guardian = &guardian("fabric").signing;
    let fields = signer.sign(&asked, 200, BODY, now()).unwrap();
    let verify = |at| fields.verify(&asked, 200, BODY, guardian, at);
    let end = Seconds::new(RESPONSE_KEY_LIFETIME.get() + RESPONSE_KEY_SKEW.get());
    assert_eq!(verify(later(end)), Ok(()));
    assert!(matches!(
        verify(later(Seconds::new(end.get() + 1))),
        Err(ResponseSignatureError::DelegationExpired { .. })
    ));
    let begin = now().checked_sub(RESPONSE_KEY_SKEW).unwrap();
    assert_eq!(verify(begin), Ok(()));
    assert!(matches!(
        verify(begin.checked_sub(Seconds::new(1)).unwrap()),
        Err(ResponseSignatureError::DelegationNotYetValid { .. })
    ));
}

/// A key signs as long as its delegation is valid, to the second, and nothing of another time is taken.
#[test]
fn a_response_is_as_old_as_its_key_may_be() {
    let (signer, asked, guardian) = (signer(), asked(), &guardian("fabric").signing);
    let begin = now().checked_sub(RESPONSE_KEY_SKEW).unwrap();
    let end = Seconds::new(RESPONSE_KEY_LIFETIME.get() + RESPONSE_KEY_SKEW.get());
    let second = Seconds::new(1);
    for (created, taken) in [
        (begin.checked_sub(second).unwrap(), false),
        (begin, true),
        (later(end), true),
        (later(end).checked_add(second).unwrap(), false),
    ] {
        let fields = signer.sign(&asked, 200, BODY, created).unwrap();
        let verified = fields.verify(&asked, 200, BODY, guardian, now());
        let expected = match taken {
            true => Ok(()),
            false => Err(ResponseSignatureError::Created { created }),
        };
        assert_eq!(verified, expected);
    }
}

/// Each field is there once, has the one form and is no longer than it can be.
#[test]
fn fields_in_another_form_are_refused_by_name() {
    let (asked, guardian) = (asked(), &guardian("fabric").signing);
    let good = sent(&signer().sign(&asked, 200, BODY, now()).unwrap());
    for (at, field) in ResponseFields::NAMES.into_iter().enumerate() {
        let mut fields = good.clone();
        fields.remove(at);
        let missing = ResponseSignatureError::Missing { field };
        assert_eq!(read(&fields).unwrap_err(), missing);
        let doubled = [&good[..], &good[at..=at]].concat();
        let refused = ResponseSignatureError::Doubled { field };
        assert_eq!(read(&doubled).unwrap_err(), refused);
        let mut fields = good.clone();
        fields[at].1 = "a".repeat(2048);
        assert!(read(&fields).is_ok());
        fields[at].1.push('a');
        let malformed = ResponseSignatureError::Malformed { field };
        assert_eq!(read(&fields).unwrap_err(), malformed);
    }
    let [_, field, ..] = ResponseFields::NAMES;
    let created = format!(";created={};", now().unix());
    for other in ["+5", "-5", "05", "", "1000000000000", "5.0", "5 "] {
        let mut fields = good.clone();
        fields[1].1 = fields[1].1.replace(&created, &format!(";created={other};"));
        assert_ne!(fields, good);
        let verified = read(&fields)
            .unwrap()
            .verify(&asked, 200, BODY, guardian, now());
        assert_eq!(
            verified,
            Err(ResponseSignatureError::Malformed { field }),
            "{other}"
        );
    }
}

fn judge(arguments: &[&str]) {
    let conformance = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let output = Command::new("/usr/bin/python3")
        .args(["-m", "openhgs_judge"])
        .args(arguments)
        .env("PYTHONPATH", conformance)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 must be installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn the_judge_verifies_what_we_sign() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = random();
    let nonce = Nonce::random(&mut random).unwrap();
    let asked = SignatureRequest::new(nonce, REQUEST);
    let fields = signer().sign(&asked, 200, BODY, now()).unwrap();
    let accept = asked.accept_signature();
    let nonce = accept.split('"').rev().nth(3).unwrap();
    let rows: Vec<String> = sent(&fields)
        .iter()
        .map(|(name, value)| format!("[{name:?}, {value:?}]"))
        .collect();
    let answer = format!(
        "{{\"now\": {}, \"status\": 200, \"body\": {:?}, \"request\": {:?}, \"nonce\": {nonce:?}, \
         \"guardian\": {:?}, \"fields\": [{}]}}",
        now().unix(),
        base64::encode(BODY),
        base64::encode(REQUEST),
        base64::encode(guardian("fabric").signing.der()),
        rows.join(", "),
    );
    let file = folder.path().join("answer.json");
    fs::write(&file, answer).unwrap();
    judge(&["check-response", file.to_str().unwrap()]);
}

/// A line of the judge's specimens: tab-separated, so that no reader of JSON is needed here.
struct Specimen<'a> {
    name: &'a str,
    reason: &'a str,
    now: Time,
    status: u16,
    octets: [Vec<u8>; 4],
    fields: Vec<(String, String)>,
}

fn specimen(line: &str) -> Specimen<'_> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [
        name,
        reason,
        now,
        status,
        body,
        request,
        accept,
        guardian,
        fields @ ..,
    ] = &cells[..]
    else {
        panic!("not a specimen: {line}");
    };
    let octets = [body, request, guardian].map(|text| base64::decode(text).unwrap());
    let [body, request, guardian] = octets;
    Specimen {
        name,
        reason,
        now: Time::from_unix(now.parse().unwrap()),
        status: status.parse().unwrap(),
        octets: [body, request, accept.as_bytes().to_vec(), guardian],
        fields: fields
            .chunks(2)
            .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
            .collect(),
    }
}

fn word(error: &ResponseSignatureError) -> &'static str {
    match error {
        ResponseSignatureError::Unsigned => "unsigned",
        ResponseSignatureError::Missing { .. } | ResponseSignatureError::Doubled { .. } => "field",
        ResponseSignatureError::Malformed { .. } => "form",
        ResponseSignatureError::Content => "content-digest",
        ResponseSignatureError::Nonce => "nonce",
        ResponseSignatureError::DelegationLabel => "delegation-label",
        ResponseSignatureError::DelegationSignature => "delegation-signature",
        ResponseSignatureError::DelegationNotYetValid { .. }
        | ResponseSignatureError::DelegationExpired { .. } => "delegation-validity",
        ResponseSignatureError::DelegationTooLong => "delegation-too-long",
        ResponseSignatureError::Created { .. } => "created",
        ResponseSignatureError::Signature => "signature",
    }
}

#[test]
fn we_take_what_the_judge_signs_and_none_of_its_forgeries() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("specimens.tsv");
    let time = now().unix().to_string();
    judge(&["response-specimens", file.to_str().unwrap(), "--now", &time]);
    let text = fs::read_to_string(file).unwrap();
    let (mut good, mut bad) = (0, 0);
    for line in text.lines() {
        let Specimen {
            name,
            reason,
            now,
            status,
            octets: [body, request, accept, guardian],
            fields,
        } = specimen(line);
        let digest =
            SignatureRequest::new(Nonce::random(&mut random()).unwrap(), &request).content_digest();
        let asked = SignatureRequest::read(&[&accept], &[digest.as_bytes()], &request)
            .unwrap()
            .unwrap();
        let guardian = Certificate::from_der(&guardian).unwrap();
        let verified =
            read(&fields).and_then(|fields| fields.verify(&asked, status, &body, &guardian, now));
        match verified {
            Ok(()) => {
                assert_eq!(reason, "", "{name} is accepted");
                good += 1;
            }
            Err(error) => {
                assert_eq!(word(&error), reason, "{name}: {error}");
                bad += 1;
            }
        }
    }
    assert!(
        good >= 3 && bad >= 55,
        "{good} good and {bad} bad specimens"
    );
}

/// Fields and delegations that nearly are those of a signed response: the body of the fuzz target, on stable Rust.
#[test]
fn what_nearly_is_signed_is_read_without_panic() {
    const TOKENS: [&[u8]; 16] = [
        b"\n",
        b"\"",
        b";",
        b":",
        b"=",
        b", ",
        b"key=:",
        b":, signature=:",
        b"openhgs=",
        b"openhgs=:",
        b"sha-256=:",
        b";created=",
        b";nonce=\"",
        b"18446744073709551616",
        b"OpenHGS response key 1",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    let asked = SignatureRequest::new(Nonce::random(&mut random()).unwrap(), b"body");
    let fields = sent(&signer().sign(&asked, 200, BODY, now()).unwrap());
    let mut lines = vec![asked.accept_signature(), asked.content_digest()];
    lines.extend(fields.into_iter().map(|(_, value)| value));
    let key = lines.last().unwrap().strip_prefix("key=:").unwrap();
    let delegation = base64::decode(key.split(':').next().unwrap()).unwrap();
    assert!(delegation.starts_with(b"OpenHGS response key 1"));
    let corpus = vec![lines.join("\n").into_bytes(), delegation];
    let mutations = hgs_testkit::Mutations::of(&corpus, &TOKENS);
    for data in corpus.iter().cloned().chain(mutations.take(10_000)) {
        hgs_kps::fuzzing::fuzz_signed_response(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever octet of whichever field is changed, added or taken away, the response is refused.
    #[test]
    fn every_octet_of_every_field_is_signed(field in 0_usize..4, place: prop::sample::Index, new in "[ -~]?") {
        let asked = asked();
        let fields = signer().sign(&asked, 200, BODY, now()).unwrap();
        let mut fields = sent(&fields);
        let value = &mut fields[field].1;
        let at = place.index(value.len());
        prop_assume!(value[at..=at] != new);
        value.replace_range(at..=at, &new);
        let verified = read(&fields).and_then(|fields| {
            fields.verify(&asked, 200, BODY, &guardian("fabric").signing, now())
        });
        prop_assert!(verified.is_err(), "{:?}", fields[field]);
    }

    #[test]
    fn any_fields_are_read_without_panic(data: Vec<u8>) {
        hgs_kps::fuzzing::fuzz_signed_response(&data);
    }
}
