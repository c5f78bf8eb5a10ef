//! `hgs guardian`: own guardians, and on whose word others are taken in.

mod common;

use common::{Home, Outcome};
use serde_json::json;

const DAYS_OF_CA: &str = "-days 30 -addext basicConstraints=critical,CA:TRUE";

fn home_with(name: &str) -> Home {
    let home = Home::new();
    home.unlocked(&format!("guardian new {name} --bits 2048"))
        .done();
    home
}

fn thumbprint(home: &Home, name: &str) -> String {
    let shown = home
        .hgs(&format!("guardian show {name} --json"))
        .done()
        .json();
    shown["signing"]["thumbprint"].as_str().unwrap().to_owned()
}

/// Makes `NAME.key` and `NAME.pem`, issued by `ca.key` and `ca.pem`.
fn issue(home: &Home, name: &str, days: &str) {
    if !home.file("ca.pem").exists() {
        home.openssl(&format!("req -x509 -newkey rsa:2048 -nodes -subj /CN=Root {DAYS_OF_CA} -keyout ca.key -out ca.pem"));
    }
    home.openssl(&format!(
        "req -newkey rsa:2048 -nodes -subj /CN={name} -addext subjectAltName=DNS:{name} -keyout {name}.key -out {name}.csr"
    ));
    home.openssl(&format!(
        "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -copy_extensions copy {days} -out {name}.pem"
    ));
}

#[test]
fn a_new_guardian_is_its_owners_alone_and_its_keys_are_encrypted() {
    let home = Home::new();
    let made = home
        .unlocked("guardian new ann --bits 2048 --json")
        .done()
        .json();
    let folder = ".local/share/openhgs/guardians/ann";
    assert_eq!(home.mode(folder), 0o700);
    for file in [
        "guardian.xml",
        "trust.json",
        "signing.pem",
        "encryption.pem",
    ] {
        assert_eq!(home.mode(&format!("{folder}/{file}")), 0o600, "{file}");
    }
    for (key, certificate) in [
        ("signing", "digitalSignature"),
        ("encryption", "keyEncipherment"),
    ] {
        let path = format!("{folder}/{key}.pem");
        let text = String::from_utf8(home.read(&path)).unwrap();
        assert!(
            text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            "{certificate}"
        );
        home.openssl(&format!("pkey -in {path} -passin file:passphrase -noout"));
    }
    let shown = home.hgs("guardian show ann --json").done().json();
    assert_eq!(shown["signing"]["thumbprint"], made["thumbprint"]);
    assert_eq!(
        shown["signing"]["subject"],
        "CN=OpenHGS Guardian Signing (ann)"
    );
    assert_eq!(
        shown["encryption"]["subject"],
        "CN=OpenHGS Guardian Encryption (ann)"
    );
    assert_eq!(shown["signing"]["key_bits"], 2048);
    assert_eq!(
        (&shown["has_private_keys"], &shown["trusted_by"]),
        (&json!(true), &json!("ourselves"))
    );
    home.hgs("guardian show ann")
        .done()
        .saying("OpenHGS Guardian Signing (ann)");
}

#[test]
fn names_are_taken_once_and_lead_nowhere_else() {
    let home = home_with("ann");
    home.unlocked("guardian new ann")
        .ended(2)
        .saying("hgs guardian remove ann");
    for bad in ["../ann", ".ann", "a/b", "-x"] {
        home.unlocked(&format!("guardian new {bad}")).ended(64);
    }
    home.hgs("guardian show bob")
        .ended(1)
        .saying("hgs guardian list");
}

#[test]
fn the_list_says_who_has_private_keys_and_who_vouches() {
    let home = home_with("ann");
    home.hgs("guardian export ann --out ann.xml").done();
    home.hgs("guardian import copy ann.xml --dangerously-trust-unverified")
        .done();
    let list = home.hgs("guardian list --json").done().json();
    let found: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|guardian| {
            json!([
                guardian["name"],
                guardian["has_private_keys"],
                guardian["trusted_by"]
            ])
        })
        .collect();
    assert_eq!(
        found,
        [
            json!(["ann", true, "ourselves"]),
            json!(["copy", false, "nobody"])
        ]
    );
    home.hgs("guardian list").done().saying("NOBODY'S WORD");
    Home::new().hgs("guardian list").done().saying("NAME");
}

#[test]
fn a_guardian_is_imported_on_somebodys_word_only() {
    let home = home_with("fabric");
    home.hgs("guardian export fabric --out fabric.xml").done();
    let thumbprint = thumbprint(&home, "fabric");
    home.hgs("guardian import x fabric.xml")
        .ended(2)
        .saying("nobody vouches")
        .saying("--thumbprint");
    let wrong = thumbprint.replace(|c: char| c.is_ascii_digit(), "0");
    home.hgs(&format!(
        "guardian import x fabric.xml --thumbprint {wrong}"
    ))
    .ended(2)
    .saying("has the thumbprint");
    home.hgs("guardian import x fabric.xml --thumbprint 12")
        .ended(64);
    home.hgs("guardian list").done();
    // As openssl prints it.
    let colons: Vec<_> = thumbprint
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
        .collect();
    home.hgs(&format!(
        "guardian import x fabric.xml --thumbprint {}",
        colons.join(":")
    ))
    .done();
    let shown = home.hgs("guardian show x --json").done().json();
    assert_eq!(
        (&shown["trusted_by"], &shown["has_private_keys"]),
        (&json!("thumbprint"), &json!(false))
    );
    // What is exported again is what was imported.
    home.hgs("guardian export x --out again.xml").done();
    assert_eq!(home.read("again.xml"), home.read("fabric.xml"));
}

#[test]
fn roots_are_given_or_configured() {
    let home = Home::new();
    issue(&home, "signing", "-days 30");
    issue(&home, "encryption", "-days 30");
    let given = "--signing-certificate signing.pem --signing-key signing.key \
                 --encryption-certificate encryption.pem --encryption-key encryption.key";
    home.unlocked(&format!("guardian new issued {given}"))
        .done();
    home.hgs("guardian export issued --out issued.xml").done();
    home.hgs("guardian import a issued.xml --root ca.pem")
        .done()
        .saying("a configured root");

    let other = home_with("other");
    other.hgs("guardian export other --out other.xml").done();
    other.write("ca.pem", home.read("ca.pem"));
    other
        .hgs("guardian import b other.xml --root ca.pem")
        .ended(2)
        .saying("nobody vouches")
        .saying("configured root");
    // A root that a person trusts once and for all.
    other.write("issued.xml", home.read("issued.xml"));
    std::fs::create_dir(other.file(".local/share/openhgs/roots")).unwrap();
    other.write(
        ".local/share/openhgs/roots/contoso.pem",
        home.read("ca.pem"),
    );
    other
        .hgs("guardian import c issued.xml")
        .done()
        .saying("a configured root");
}

#[test]
fn expired_certificates_need_to_be_allowed() {
    let home = Home::new();
    let days = "-not_before 20200101000000Z -not_after 20210101000000Z";
    if String::from_utf8_lossy(&home.openssl("version")).starts_with("OpenSSL 3.0") {
        // openssl of Debian 12 dates certificates with `ca` only.
        home.write("ca.cnf", "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n");
        for name in ["signing", "encryption"] {
            issue(&home, name, "-days 30");
            home.write("index.txt", "");
            home.openssl("rand -hex -out serial 8");
            home.openssl(&format!(
                "ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem \
                 -startdate 20200101000000Z -enddate 20210101000000Z -notext"
            ));
        }
    } else {
        issue(&home, "signing", days);
        issue(&home, "encryption", days);
    }
    let new = "guardian new old --signing-certificate signing.pem --signing-key signing.key \
               --encryption-certificate encryption.pem --encryption-key encryption.key";
    home.unlocked(new)
        .ended(2)
        .saying("expired at 2021-01-01")
        .saying("--allow-expired");
    home.unlocked(&format!("{new} --allow-expired")).done();
    home.hgs("guardian export old --out old.xml").done();
    let import = format!(
        "guardian import x old.xml --thumbprint {}",
        thumbprint(&home, "old")
    );
    home.hgs(&import)
        .ended(2)
        .saying("expired at 2021-01-01")
        .saying("--allow-expired");
    home.hgs(&format!("{import} --allow-expired")).done();
    home.unlocked("guardian new ann --bits 2048").done();
    let protect = "protector new --owner ann --guardian x --out vm.xml";
    home.unlocked(protect)
        .ended(2)
        .saying("expired at 2021-01-01");
    home.unlocked(&format!("{protect} --allow-expired")).done();
}

#[test]
fn what_is_no_guardians_document_is_refused() {
    let home = home_with("fabric");
    home.hgs("guardian export fabric --out fabric.xml").done();
    let import = |file: &str| {
        home.hgs(&format!(
            "guardian import x {file} --dangerously-trust-unverified"
        ))
    };
    let document = String::from_utf8(home.read("fabric.xml")).unwrap();
    home.write(
        "changed.xml",
        document.replace("<Version>1</Version>", "<Version>01</Version>"),
    );
    import("changed.xml")
        .ended(2)
        .saying("signature of the metadata");
    home.write("cut.xml", &document[..document.len() / 2]);
    import("cut.xml").ended(2);
    import("/dev/zero")
        .ended(2)
        .saying("has at most 262144 octets");
    import("no-such-file").ended(1);
    home.hgs("guardian list --json").done().saying("fabric");
    assert_eq!(
        home.hgs("guardian list --json")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn keys_are_taken_from_pfx_and_pem_files() {
    let home = Home::new();
    issue(&home, "s", "-days 30");
    issue(&home, "e", "-days 30");
    home.write_private("other", "battery staple\n");
    home.openssl(
        "pkcs12 -export -inkey s.key -in s.pem -certfile ca.pem -passout file:other -out s.pfx",
    );
    // Key and certificate in one file, the chain in the wrong order.
    home.openssl("pkcs8 -topk8 -in e.key -passout file:other -out e.p8");
    home.write(
        "both.pem",
        [home.read("ca.pem"), home.read("e.p8"), home.read("e.pem")].concat(),
    );
    let new = "--signing-certificate s.pfx --encryption-certificate both.pem";
    let passphrases =
        "--signing-passphrase-from file:other --encryption-passphrase-from file:other";
    home.unlocked(&format!("guardian new ann {new} {passphrases}"))
        .done();
    let shown = home.hgs("guardian show ann --json").done().json();
    assert_eq!(
        (
            &shown["signing"]["subject"],
            &shown["encryption"]["subject"]
        ),
        (&json!("CN=s"), &json!("CN=e"))
    );
    home.unlocked("protector new --owner ann --out vm.xml")
        .done();

    let wrong = "--signing-passphrase-from file:passphrase --encryption-passphrase-from file:other";
    home.unlocked(&format!("guardian new bob {new} {wrong}"))
        .ended(2)
        .saying("s.pfx: wrong passphrase");
    let swapped = "--signing-certificate s.pem --signing-key e.key --encryption-certificate e.pem --encryption-key e.key";
    home.unlocked(&format!("guardian new bob {swapped}"))
        .ended(2)
        .saying("the private key belongs to none of the certificates");
    home.unlocked("guardian new bob --signing-certificate s.pem")
        .ended(64);
    home.unlocked(&format!("guardian new bob --bits 2048 {new}"))
        .ended(64);
}

#[test]
fn passphrases_come_from_files_variables_credentials_and_never_from_arguments() {
    let home = home_with("ann");
    let protect = "protector new --owner ann --json --out";
    let with = |words: &str, variables: &[(&str, &str)]| {
        let mut command = home.command();
        command.envs(variables.iter().copied());
        Outcome::of(command.args(words.split(' ')))
    };
    with(
        &format!("{protect} a.xml --passphrase-from env:P"),
        &[("P", "correct horse")],
    )
    .done();
    home.write_private("hgs", "correct horse");
    let folder = home.path().to_str().unwrap();
    with(
        &format!("{protect} b.xml --passphrase-from credential:hgs"),
        &[("CREDENTIALS_DIRECTORY", folder)],
    )
    .done();
    with(
        &format!("{protect} c.xml --passphrase-from credential:hgs"),
        &[],
    )
    .ended(1)
    .saying("LoadCredential=");
    with(
        &format!("{protect} c.xml --passphrase-from env:P"),
        &[("P", "wrong")],
    )
    .ended(2)
    .saying("wrong passphrase");
    with(&format!("{protect} c.xml"), &[])
        .ended(1)
        .saying("passphrase-from file:PATH");
    let shown = with("protector new --owner ann --passphrase-from hunter2", &[]).ended(64);
    assert!(!shown.err.contains("hunter2"), "{}", shown.err);
    home.write("shared", "correct horse");
    with(
        &format!("{protect} c.xml --passphrase-from file:shared"),
        &[],
    )
    .ended(1)
    .saying("chmod go=");
    assert!(!home.file("c.xml").exists());
}

#[test]
fn a_guardian_is_removed_only_when_that_is_meant() {
    let home = home_with("ann");
    home.hgs("guardian remove ann")
        .ended(2)
        .saying("--yes")
        .saying("private keys");
    home.hgs("guardian show ann").done();
    home.hgs("guardian remove ann --yes").done();
    home.hgs("guardian show ann").ended(1);
    assert_eq!(
        home.path()
            .join(".local/share/openhgs/guardians")
            .read_dir()
            .unwrap()
            .count(),
        0
    );
}

/// attacks.md K20: nothing is read from where a link leads, or from what others may change.
#[test]
fn k20_a_guardian_behind_a_link_or_open_to_others_is_not_used() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let home = home_with("ann");
    let folder = home.file(".local/share/openhgs/guardians/ann");
    for file in ["guardian.xml", "signing.pem"] {
        let (path, aside) = (folder.join(file), home.file("aside"));
        std::fs::rename(&path, &aside).unwrap();
        symlink(&aside, &path).unwrap();
        home.unlocked("protector new --owner ann --out vm.xml")
            .ended(1)
            .saying("is a symbolic link");
        std::fs::rename(&aside, &path).unwrap();
    }
    std::fs::set_permissions(
        folder.join("encryption.pem"),
        std::fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    home.unlocked("protector new --owner ann --out vm.xml")
        .ended(1)
        .saying("meant for its owner alone");
}
