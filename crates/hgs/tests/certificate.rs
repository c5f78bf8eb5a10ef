//! `hgs certificate`, `signer` and `server set`, against a server that runs.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::served::{Served, configure};
use common::{Home, Outcome};
use serde_json::Value;

struct Site {
    home: Home,
    _served: Served,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
            .done();
        let served = Served::start(&home);
        Self {
            home,
            _served: served,
        }
    }

    #[track_caller]
    fn ask(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml"))
    }

    #[track_caller]
    fn json(&self, words: &str) -> Value {
        self.ask(&format!("{words} --json")).done().json()
    }

    /// The thumbprint of what such words add.
    #[track_caller]
    fn added(&self, words: &str) -> String {
        thumbprint(&self.json(words))
    }

    /// A key and a certificate of this name, as openssl makes them.
    fn certified(&self, name: &str, usage: &str) {
        self.home.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 900 \
             -subj /CN={name} -addext keyUsage=critical,{usage} -addext basicConstraints=CA:FALSE"
        ));
    }
}

fn thumbprint(value: &Value) -> String {
    value["thumbprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_certificate_is_added_in_every_form_that_people_have() {
    let site = Site::new();
    site.certified("pem", "digitalSignature");
    let added = site
        .json("certificate add --type signing --certificate pem.pem --key pem.key --label second");
    assert_eq!(added["label"], "second");
    assert_eq!(added["findings"][0]["code"], "self-signed");
    assert_eq!(added["usable"], true);

    site.certified("pfx", "dataEncipherment");
    site.home
        .openssl("pkcs12 -export -in pfx.pem -inkey pfx.key -out pfx.pfx -passout file:passphrase");
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(site.home.file("pfx.pfx"), readable).unwrap();
    site.ask("certificate add --type encryption --pfx pfx.pfx --passphrase-from file:passphrase --primary")
        .done()
        .saying("pfx.pfx has a private key and mode 0644")
        .saying("chmod 600 pfx.pfx")
        .saying("and primary")
        .saying("note: it signs itself");
    site.ask("certificate add --type encryption --pfx pfx.pfx --passphrase-from file:passphrase")
        .ended(2)
        .saying("known already");

    // Renewed over the same key, which is there.
    site.home.openssl(
        "req -x509 -key pem.key -out renewed.pem -days 900 -subj /CN=renewed \
         -addext keyUsage=critical,digitalSignature",
    );
    site.ask("certificate add --type signing --certificate renewed.pem")
        .done();
    site.certified("alone", "digitalSignature");
    site.ask("certificate add --type signing --certificate alone.pem")
        .ended(2)
        .saying("missing")
        .saying("pkcs11:");
    site.ask("certificate add --type signing --certificate alone.pem --key pem.key")
        .ended(2);
    site.ask("certificate add --type signing --certificate alone.pem --pfx pfx.pfx")
        .ended(64);

    // What is wrong is said; what is weak is refused.
    site.ask("certificate add --type encryption --certificate alone.pem --key alone.key")
        .done()
        .saying("warning: its key usage lacks dataEncipherment");
    site.home.openssl(
        "req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.pem -days 9 -subj /CN=weak",
    );
    site.ask("certificate add --type signing --certificate weak.pem --key weak.key")
        .ended(2);
    site.ask("certificate list").done().saying("CN=pfx");
}

#[test]
fn a_pair_is_made_primary_and_the_old_one_is_retired_and_removed() {
    let site = Site::new();
    let primary = |kind: &str| thumbprint(&site.json("status")[format!("primary_{kind}")]);
    let old = primary("encryption");
    let new = site.added("certificate new --type encryption --bits 2048");
    site.ask(&format!("certificate set {new} --primary"))
        .done()
        .saying("is primary");
    assert_eq!(primary("encryption"), new);
    site.ask(&format!("certificate disable {new} --yes"))
        .ended(2)
        .saying("primary");
    site.ask(&format!("certificate set {new} --compromised --yes"))
        .ended(2)
        .saying("--primary");
    site.ask(&format!("certificate set {new}")).ended(64);
    site.ask(&format!("certificate set {old} --label old"))
        .done();
    site.ask("certificate list").done().saying("old");
    site.ask("certificate usage").done().saying(&old);
    site.ask(&format!("certificate retire {old}")).ended(2);
    site.ask(&format!("certificate retire {old} --yes")).done();
    site.ask(&format!("certificate set {old} --primary"))
        .ended(2);
    site.ask(&format!("certificate disable {old} --yes"))
        .done()
        .saying("is disabled");
    site.ask(&format!("certificate enable {old}")).done();
    site.ask(&format!("certificate set {old} --compromised --yes"))
        .done()
        .saying("is compromised");
    site.ask(&format!("certificate remove {old} --yes"))
        .ended(2)
        .saying("--even-if-needed");
    site.ask(&format!("certificate remove {old} --even-if-needed --yes"))
        .done();
    site.ask(&format!("certificate show {old}")).ended(1);
    let actions: Vec<_> = site
        .json("audit list --limit 3")
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        actions,
        [
            "remove-certificate",
            "remove-certificate",
            "set-compromised"
        ]
    );
}

#[test]
fn one_command_rotates_both_halves() {
    let site = Site::new();
    let before = site.json("status");
    let former = |kind: &str| thumbprint(&before[format!("primary_{kind}")]);
    let said = site
        .ask("certificate rotate --label 2027 --bits 2048")
        .done()
        .saying("is primary")
        .saying("The former signing certificate")
        .saying(former("encryption"));
    drop(said);
    let after = site.json("status");
    for kind in ["signing", "encryption"] {
        let primary = thumbprint(&after[format!("primary_{kind}")]);
        assert_ne!(primary, former(kind));
        let shown = site.json(&format!("certificate show {primary}"));
        assert_eq!(
            (&shown["label"], &shown["usable"]),
            (&"2027".into(), &true.into())
        );
        let former = site.json(&format!("certificate show {}", former(kind)));
        assert_eq!(
            (&former["enabled"], &former["primary"]),
            (&true.into(), &false.into())
        );
    }
    let actions: Vec<_> = site
        .json("audit list --limit 4")
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        actions,
        ["set-head", "add-certificate", "set-head", "add-certificate"]
    );

    let again = site.json("certificate rotate --bits 2048");
    assert_eq!(
        again["previous_signing"],
        after["primary_signing"]["thumbprint"]
    );
    assert_eq!(again["encryption"]["primary"], true);
    site.ask("certificate rotate --tenant Contoso")
        .ended(2)
        .saying("no certificates that could be rotated");
    site.ask("certificate rotate --signing-key pkcs11:token=none;object=s --new-keys")
        .ended(2)
        .saying("[[pkcs11.module]]");
    site.ask("certificate rotate --tenant Cont\u{200b}oso")
        .ended(2)
        .saying("can't be seen");
}

#[test]
fn a_tenants_pair_is_exported_as_a_guardian_that_owners_import() {
    let site = Site::new();
    site.ask("certificate new --type signing --bits 2048 --tenant Contoso --primary")
        .ended(2)
        .saying("never primary")
        .saying("--head");
    let signing = site.added("certificate new --type signing --bits 2048 --tenant Contoso");
    site.ask(&format!("certificate export {signing} --guardian"))
        .ended(2)
        .saying("no encryption certificate");
    site.ask("certificate new --type encryption --bits 2048 --tenant Contoso")
        .done()
        .saying("head of its lineage");
    let about = site.json("audit list --lineage tenant:Contoso");
    let about = about.as_array().unwrap().iter();
    let outcomes: Vec<_> = about.map(|record| record["outcome"].clone()).collect();
    assert_eq!(outcomes, ["done", "done", "refused"]);
    site.ask("audit list --lineage Contoso").ended(2);
    site.ask(&format!(
        "certificate export {signing} --guardian --out contoso.xml"
    ))
    .done()
    .saying(&signing);
    site.home
        .hgs(&format!(
            "guardian import contoso contoso.xml --thumbprint {signing}"
        ))
        .done();
    site.ask(&format!("certificate export {signing} --out contoso.pem"))
        .done();
    site.home.openssl("x509 -in contoso.pem -noout -subject");
}

#[test]
fn settings_that_are_state_are_set() {
    let site = Site::new();
    let communications =
        site.added("certificate new --type communications --subject hgs.example --bits 2048");
    let set = format!("server set --communications-certificate {communications}");
    let settings = site.json(&set);
    assert_eq!(
        thumbprint(&settings["communications_certificate"]),
        communications
    );
    site.ask("server set --rekey-window 24h").ended(2);
    site.ask("server set --rekey-window soon --yes").ended(64);
    site.ask("server set --rekey-window 31d --yes").ended(2);
    site.ask("server set --rekey-window 24h --yes")
        .done()
        .saying("Re-key window open until");
    site.ask("status").done().saying("accepted unseen");
    let closed = site.json("server set --rekey-window 0s");
    assert_eq!(closed["rekey_window_until"], Value::Null);
    site.ask("server set").ended(64);
}

#[test]
fn another_clusters_signer_is_believed_within_bounds() {
    let site = Site::new();
    let own = thumbprint(&site.json("signer list")[0]);
    site.home.openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 900 \
         -subj /CN=other -addext keyUsage=critical,digitalSignature,keyCertSign",
    );
    let added = site.json("signer add other.pem --label other --maximum-validity 8h");
    assert_eq!(added[0]["maximum_validity_seconds"], 28_800);
    assert_eq!(added[0]["stage"], "trusted");
    let other = thumbprint(&added[0]);
    site.ask("signer add other.pem").ended(2);
    site.certified("leaf", "digitalSignature");
    site.ask("signer add leaf.pem")
        .ended(2)
        .saying("may not issue");
    let denied = site.json("signer set all --deny-before 2026-11-21T00:00:00Z");
    assert_eq!(denied.as_array().unwrap().len(), 2);
    let set = site.json(&format!(
        "signer set {other} --deny-before none --deny 4a:11 --deny 07 --allow 4a11"
    ));
    assert_eq!(set[0]["deny_before"], Value::Null);
    assert_eq!(set[0]["denied_serial_numbers"], 1);
    site.ask(&format!("signer set {own} --maximum-validity 1h"))
        .ended(2)
        .saying("our own");
    site.ask(&format!("signer set {other}")).ended(64);
    site.ask(&format!("signer remove {other}")).ended(2);
    site.ask(&format!("signer remove {other} --yes")).done();
    let left = site.json("signer list");
    assert_eq!(left.as_array().unwrap().len(), 1);
}
