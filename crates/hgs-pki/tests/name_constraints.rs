//! Name constraints of roots, RFC 5280 section 4.2.1.10: certificates by `openssl`, which judges them too.

mod common;

use std::slice;

use common::openssl::Openssl;
use hgs_pki::chain::{self, ChainError};
use hgs_pki::{Certificate, NameForm, Seconds};

/// A root and a leaf below it, made anew for each case with the same two keys.
struct Pair(Openssl);

impl Pair {
    fn new() -> Self {
        let openssl = Openssl::new();
        for key in ["root", "leaf"] {
            openssl.run(&format!("genrsa -out {key}.key 2048"));
        }
        Self(openssl)
    }

    /// `constraints` of the root, `subject` and `alternative` names of the leaf as `openssl` writes them. Names of
    /// sections that both may use: `example`, `example-host`, `other`, `everything`.
    fn issue(&self, constraints: &str, subject: &str, alternative: &str) -> [Certificate; 2] {
        let alternative = match alternative {
            "" => String::new(),
            names => format!("subjectAltName = {names}\n"),
        };
        let configuration = format!(
            "[req]\ndistinguished_name = name\nstring_mask = utf8only\n[name]\n\
             [root]\nbasicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign\n\
             nameConstraints = {constraints}\n\
             [leaf]\nbasicConstraints = critical,CA:false\n{alternative}\
             [authority]\nbasicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign\n\
             [example]\nC = DE\nO = Example\n[example-host]\nC = DE\nO = Example\nCN = a\n\
             [other]\nC = DE\nO = Other\n[everything]\n"
        );
        self.0.write("case.cnf", configuration);
        let root = self.issued("root", "-extensions root -key root.key -subj /CN=root");
        let leaf = self.issued(
            "leaf",
            &format!("-extensions leaf -key leaf.key -subj {subject} -CA root.pem -CAkey root.key"),
        );
        [root, leaf]
    }

    fn issued(&self, name: &str, options: &str) -> Certificate {
        let options = format!("-config case.cnf {options}");
        let certificate = Certificate::from_der(&self.0.self_signed(name, &options)).unwrap();
        self.0.write(&format!("{name}.pem"), certificate.to_pem());
        certificate
    }

    /// Our answer, which `openssl` must share.
    #[track_caller]
    fn verify(&self, [root, leaf]: &[Certificate; 2], case: &str) -> Result<(), ChainError> {
        let begin = leaf.validity().not_before;
        let when = begin.checked_add(Seconds::from_days(1)).unwrap();
        let ours = chain::verify(leaf, &[], slice::from_ref(root), when);
        let (accepted, output, complaint) = self.0.attempt(&format!(
            "verify -attime {} -CAfile root.pem leaf.pem",
            when.unix()
        ));
        assert_eq!(
            ours.is_ok(),
            accepted,
            "{case}: {ours:?}\n{output}{complaint}"
        );
        ours
    }
}

/// Constraints, subject and alternative names.
type Names = (&'static str, &'static str, &'static str);

const PERMITTED: &[Names] = &[
    (
        "critical,permitted;dirName:example",
        "/C=DE/O=Example/CN=a",
        "",
    ),
    ("critical,permitted;dirName:example", "/C=DE/O=Example", ""),
    ("permitted;dirName:example", "/C=DE/O=EXAMPLE/CN=a", ""),
    (
        "critical,permitted;dirName:example",
        "/C=DE/O=~example~/CN=a",
        "",
    ),
    ("critical,permitted;dirName:everything", "/CN=a", ""),
    (
        "critical,permitted;dirName:other,permitted;dirName:example",
        "/C=DE/O=Example/CN=a",
        "",
    ),
    (
        "critical,permitted;dirName:example",
        "/C=DE/O=Example/CN=a",
        "dirName:example-host",
    ),
    (
        "critical,excluded;dirName:other",
        "/C=DE/O=Example/CN=a",
        "",
    ),
    (
        "critical,excluded;dirName:example-host",
        "/C=DE/O=Example/CN=b",
        "",
    ),
    (
        "critical,permitted;email:example.org",
        "/CN=a",
        "email:root@example.org",
    ),
    (
        "critical,permitted;email:example.org",
        "/CN=a",
        "email:root@EXAMPLE.org",
    ),
    (
        "critical,permitted;email:.example.org",
        "/CN=a",
        "email:root@a.example.org",
    ),
    (
        "critical,permitted;email:root@example.org",
        "/CN=a",
        "email:root@example.org",
    ),
    ("critical,permitted;email:example.org", "/CN=a", ""),
    (
        "critical,permitted;email:example.org",
        "/CN=a/emailAddress=root@example.org",
        "",
    ),
    (
        "critical,excluded;email:example.org",
        "/CN=a",
        "email:root@a.example.org",
    ),
    (
        "critical,permitted;URI:example.org",
        "/CN=a",
        "URI:https://example.org/a?b",
    ),
    (
        "critical,permitted;URI:.example.org",
        "/CN=a",
        "URI:https://a.example.org:8443",
    ),
    (
        "critical,excluded;URI:example.org",
        "/CN=a",
        "URI:https://a.example.org/",
    ),
    (
        "critical,permitted;DNS:example.org",
        "/CN=a",
        "DNS:a.example.org",
    ),
    (
        "critical,permitted;IP:192.0.2.0/255.255.255.0",
        "/CN=a",
        "IP:192.0.2.7",
    ),
    // Constraints on forms that the certificate has no name of.
    (
        "critical,permitted;otherName:1.2.3.4;UTF8:a",
        "/CN=a",
        "DNS:a.example.org",
    ),
    (
        "critical,excluded;otherName:1.2.3.4;UTF8:a",
        "/CN=a",
        "otherName:1.2.3.5;UTF8:a",
    ),
    (
        "critical,permitted;RID:1.2.3.4",
        "/CN=a",
        "email:root@example.org",
    ),
    // Two forms at once, one of which webpki compares.
    (
        "critical,permitted;DNS:example.org,permitted;dirName:example,excluded;email:example.com",
        "/C=DE/O=Example/CN=a",
        "DNS:a.example.org,email:root@example.org",
    ),
    (
        "critical,permitted;email:example.org",
        "/CN=a",
        "otherName:1.2.3.4;UTF8:a",
    ),
];

const FORBIDDEN: &[Names] = &[
    (
        "critical,permitted;dirName:example",
        "/C=DE/O=Other/CN=a",
        "",
    ),
    ("permitted;dirName:example", "/CN=a", ""),
    (
        "critical,permitted;dirName:example-host",
        "/C=DE/O=Example/CN=b",
        "",
    ),
    // The attributes are the same, but not in the same relative names.
    (
        "critical,permitted;dirName:example",
        "/O=Example/C=DE/CN=a",
        "",
    ),
    (
        "critical,permitted;dirName:example",
        "/C=DE+O=Example/CN=a",
        "",
    ),
    (
        "critical,permitted;dirName:example",
        "/C=DE/O=Example/CN=a",
        "dirName:other",
    ),
    (
        "critical,excluded;dirName:example",
        "/C=DE/O=example/CN=a",
        "",
    ),
    ("excluded;dirName:everything", "/CN=a", ""),
    (
        "critical,permitted;dirName:example,excluded;dirName:example-host",
        "/C=DE/O=Example/CN=a",
        "",
    ),
    (
        "critical,permitted;email:example.org",
        "/CN=a",
        "email:root@a.example.org",
    ),
    (
        "critical,permitted;email:.example.org",
        "/CN=a",
        "email:root@example.org",
    ),
    (
        "critical,permitted;email:root@example.org",
        "/CN=a",
        "email:Root@example.org",
    ),
    (
        "critical,permitted;email:example.org",
        "/CN=a",
        "email:root@example.org,email:root@example.com",
    ),
    (
        "critical,permitted;email:example.org",
        "/CN=a/emailAddress=root@example.com",
        "",
    ),
    (
        "critical,excluded;email:example.org",
        "/CN=a",
        "email:root@Example.org",
    ),
    (
        "critical,excluded;email:.example.org",
        "/CN=a",
        "email:root@a.example.org",
    ),
    (
        "critical,permitted;URI:example.org",
        "/CN=a",
        "URI:https://a.example.org/",
    ),
    (
        "critical,excluded;URI:.example.org",
        "/CN=a",
        "URI:https://a.example.org/",
    ),
    (
        "critical,permitted;DNS:example.org",
        "/CN=a",
        "DNS:a.example.com",
    ),
    (
        "critical,excluded;IP:192.0.2.0/255.255.255.0",
        "/CN=a",
        "IP:192.0.2.7",
    ),
    (
        "critical,permitted;DNS:example.org,permitted;dirName:example",
        "/C=DE/O=Example/CN=a",
        "DNS:a.example.com",
    ),
];

#[test]
fn what_a_root_permits_is_accepted() {
    let pair = Pair::new();
    for (constraints, subject, alternative) in PERMITTED {
        let case = format!("{constraints} over {subject} {alternative}");
        let certificates = pair.issue(constraints, subject, alternative);
        assert_eq!(pair.verify(&certificates, &case), Ok(()), "{case}");
    }
}

#[test]
fn what_a_root_forbids_is_refused() {
    let pair = Pair::new();
    for (constraints, subject, alternative) in FORBIDDEN {
        let case = format!("{constraints} over {subject} {alternative}");
        let certificates = pair.issue(constraints, subject, alternative);
        let refused = Err(ChainError::NameConstraint);
        assert_eq!(pair.verify(&certificates, &case), refused, "{case}");
    }
}

#[test]
fn names_are_compared_whatever_kind_of_string_they_are_written_in() {
    let pair = Pair::new();
    let [root, _] = pair.issue("critical,permitted;dirName:example", "/CN=a", "");
    let configuration = String::from_utf8(pair.0.read("case.cnf")).unwrap();
    // UTF8String, BMPString, TeletexString.
    for kind in ["utf8only", "MASK:0x800", "MASK:0x4"] {
        pair.0
            .write("case.cnf", configuration.replace("utf8only", kind));
        let verified = |subject: &str| {
            let options = "-extensions leaf -key leaf.key -CA root.pem -CAkey root.key";
            let leaf = pair.issued("leaf", &format!("{options} -subj {subject}"));
            pair.verify(&[root.clone(), leaf], &format!("{kind} {subject}"))
        };
        assert_eq!(verified("/C=DE/O=example/CN=a"), Ok(()), "{kind}");
        let refused = Err(ChainError::NameConstraint);
        assert_eq!(verified("/C=DE/O=Other/CN=a"), refused, "{kind}");
    }
}

#[test]
fn a_constrained_form_without_rules_is_refused_by_its_name() {
    let pair = Pair::new();
    for (constraints, alternative, form, name) in [
        (
            "critical,permitted;otherName:1.2.3.4;UTF8:a",
            "otherName:1.2.3.4;UTF8:a",
            NameForm::OtherName,
            "otherName",
        ),
        (
            "excluded;otherName:1.2.3.4;UTF8:a",
            "otherName:1.2.3.4;UTF8:b",
            NameForm::OtherName,
            "otherName",
        ),
        (
            "critical,permitted;RID:1.2.3.4",
            "RID:1.2.3.4",
            NameForm::RegisteredId,
            "registeredID",
        ),
    ] {
        let certificates = pair.issue(constraints, "/CN=a", alternative);
        let refused = pair.verify(&certificates, constraints).unwrap_err();
        assert_eq!(refused, ChainError::UnsupportedNameConstraint(form));
        assert!(refused.to_string().contains(name), "{refused}");
    }
    // A mail address beyond ASCII, which constraints of mail addresses are about as well.
    let mailbox = "otherName:1.3.6.1.5.5.7.8.9;UTF8:grün@example.com";
    let certificates = pair.issue("critical,permitted;email:example.org", "/CN=a", mailbox);
    assert_eq!(
        pair.verify(&certificates, mailbox),
        Err(ChainError::UnsupportedNameConstraint(NameForm::Rfc822Name))
    );
}

#[test]
fn names_without_the_part_that_is_compared_are_refused() {
    let pair = Pair::new();
    for (constraints, alternative) in [
        ("critical,permitted;email:example.org", "email:example.org"),
        ("critical,excluded;email:example.org", "email:root"),
        ("critical,permitted;URI:example.org", "URI:urn:uuid:1"),
        ("critical,excluded;URI:example.org", "URI:urn:uuid:1"),
    ] {
        let certificates = pair.issue(constraints, "/CN=a", alternative);
        let refused = pair.verify(&certificates, constraints);
        assert_eq!(refused, Err(ChainError::MalformedNames), "{alternative}");
    }
}

/// Where `openssl` is more lenient.
#[test]
fn names_that_only_look_as_if_they_were_permitted_are_refused() {
    let pair = Pair::new();
    let verify = |constraints: &str, alternative: &str| {
        let [root, leaf] = pair.issue(constraints, "/CN=a", alternative);
        let when = leaf.validity().not_before;
        chain::verify(&leaf, &[], slice::from_ref(&root), when)
    };
    for (constraints, alternative) in [
        // A user in a URI does not pass for its host, nor a domain for a host in it.
        (
            "critical,permitted;URI:example.org",
            "URI:https://example.org@example.com/",
        ),
        (
            "critical,permitted;email:.example.org",
            "email:a@.example.org",
        ),
        // An excluded address of no octets is about every address.
        (
            "critical,DER:30:06:A1:04:30:02:81:00",
            "email:a@example.org",
        ),
    ] {
        let refused = verify(constraints, alternative);
        assert_eq!(refused, Err(ChainError::NameConstraint), "{alternative}");
    }
    for (constraints, alternative) in [
        // What has no part to compare is not excluded, but not accepted either.
        ("critical,permitted;email:example.org", "email:@example.org"),
        ("critical,excluded;email:example.org", "email:a@"),
        (
            "critical,excluded;email:example.org",
            "email:grün@example.com",
        ),
        (
            "critical,excluded;URI:example.org",
            "URI:https:///example.org",
        ),
        (
            "critical,excluded;URI:example.org",
            "URI:https://192.0.2.1/",
        ),
        (
            "critical,excluded;URI:example.org",
            "URI:https://[2001:db8::1]/",
        ),
        // Octets behind what RFC 5280 has there: of the constraints, and of one of them (a `minimum`).
        (
            "critical,DER:30:09:A1:05:30:03:81:01:62:05:00",
            "email:a@example.org",
        ),
        (
            "critical,DER:30:0A:A1:08:30:06:81:01:62:80:01:01",
            "email:a@example.org",
        ),
    ] {
        let refused = verify(constraints, alternative);
        let case = format!("{constraints} over {alternative}");
        assert_eq!(refused, Err(ChainError::MalformedNames), "{case}");
    }
}

#[test]
fn a_pinned_certificate_is_not_held_to_its_own_constraints() {
    let pair = Pair::new();
    let constraints = "critical,permitted;dirName:example,excluded;email:example.org";
    let [root, leaf] = pair.issue(constraints, "/C=DE/O=Example", "");
    let when = leaf.validity().not_before;
    assert_eq!(
        chain::verify(&root, &[], slice::from_ref(&root), when),
        Ok(())
    );
    let when = when.checked_add(Seconds::from_days(1)).unwrap().unix();
    pair.0
        .run(&format!("verify -attime {when} -CAfile root.pem root.pem"));
}

#[test]
fn an_intermediate_is_constrained_as_a_leaf_is_unless_it_is_self_issued() {
    let pair = Pair::new();
    let chain = |intermediate: &str| {
        pair.issue("critical,permitted;dirName:example", "/C=DE/O=Example", "");
        let root = pair.issued("root", "-extensions root -key root.key -subj /C=DE/O=Other");
        let middle = pair.issued(
            "middle",
            &format!(
                "-extensions authority -newkey rsa:2048 -subj {intermediate} \
                 -CA root.pem -CAkey root.key"
            ),
        );
        let leaf = pair.issued(
            "leaf",
            "-extensions leaf -key leaf.key -subj /C=DE/O=Example/CN=a -CA middle.pem -CAkey middle.key",
        );
        let when = leaf.validity().not_before;
        let later = when.checked_add(Seconds::from_days(1)).unwrap();
        let ours = chain::verify(&leaf, &[middle], &[root], later);
        let (accepted, ..) = pair.0.attempt(&format!(
            "verify -attime {} -CAfile root.pem -untrusted middle.pem leaf.pem",
            later.unix()
        ));
        assert_eq!(ours.is_ok(), accepted, "{intermediate}: {ours:?}");
        ours
    };
    assert_eq!(chain("/C=DE/O=Example/CN=middle"), Ok(()));
    assert_eq!(
        chain("/C=DE/O=Other/CN=middle"),
        Err(ChainError::NameConstraint)
    );
    // The root's own next key: RFC 5280 section 6.1.3 (b).
    assert_eq!(chain("/C=DE/O=Other"), Ok(()));
}

#[test]
fn constraints_of_an_intermediate_that_only_a_root_may_have_are_named() {
    let pair = Pair::new();
    pair.issue("critical,permitted;dirName:example", "/CN=a", "");
    let top = pair.issued("top", "-extensions authority -newkey rsa:2048");
    let middle = pair.issued(
        "middle",
        "-extensions root -key root.key -CA top.pem -CAkey top.key",
    );
    let leaf = pair.issued(
        "leaf",
        "-extensions leaf -key leaf.key -subj /C=DE/O=Example/CN=a -CA middle.pem -CAkey root.key",
    );
    let when = leaf.validity().not_before;
    assert_eq!(
        chain::verify(&leaf, slice::from_ref(&middle), &[top], when),
        Err(ChainError::IntermediateNameConstraint(
            NameForm::DirectoryName
        ))
    );
    // The remedy that the error names.
    assert_eq!(chain::verify(&leaf, &[], &[middle], when), Ok(()));
}

#[test]
fn more_comparisons_of_names_than_one_certificate_is_worth_are_refused() {
    let pair = Pair::new();
    let permitted = "permitted;email:b,".repeat(250);
    let constraints = format!("{permitted}{}", ["excluded;email:c"; 250].join(","));
    // With the subject: 500 names, each of which is compared with 500 constraints.
    let alternative = ["email:a@b"; 499].join(",");
    let most = pair.issue(&constraints, "/CN=a", &alternative);
    assert_eq!(pair.verify(&most, "250,000 comparisons"), Ok(()));
    let [root, leaf] = pair.issue(&constraints, "/CN=a", &format!("{alternative},email:a@b"));
    let when = leaf.validity().not_before;
    assert_eq!(
        chain::verify(&leaf, &[], slice::from_ref(&root), when),
        Err(ChainError::TooManyPaths)
    );
}
