//! What is kept of fuzzing: every input in fuzz/corpus goes through the body of its target, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Body = fn(&[u8]);

struct Target {
    name: &'static str,
    /// Each with its path.
    bodies: &'static [(&'static str, Body)],
}

macro_rules! targets {
    ($($name:ident: $($body:path),+;)+) => {
        &[$(Target { name: stringify!($name), bodies: &[$((stringify!($body), $body)),+] }),+]
    };
}

const TARGETS: &[Target] = targets! {
    age_file: hgs_custody::age::fuzzing::fuzz_age_file;
    attestation_freshness: hgs_attest::fuzzing::fuzz_freshness;
    attestation_reply: hgs_attest::fuzzing::fuzz_reply;
    attestation_request: hgs_attest::fuzzing::fuzz_request;
    audit_archive: hgs_store::fuzz_audit_archive;
    bundle: hgs_custody::bundle::fuzz_bundle;
    certificate: hgs_pki::fuzzing::fuzz_certificate;
    cluster_join: hgs_cluster::join::fuzz_join;
    cluster_value: hgs_cluster::order::fuzz_values;
    console_form: hgs_console::fuzzing::fuzz_console_form;
    console_request: hgs_server::fuzz_console_request;
    endorsement: hgs_pki::fuzzing::fuzz_endorsement;
    etcd_answer: hgs_etcd::fuzz_answer;
    event_log: hgs_tcg::fuzzing::fuzz_event_log;
    guardian_facts: hgs_trace::fuzzing::fuzz_guardian_facts;
    health_certificate: hgs_pki::fuzzing::fuzz_health_certificate;
    health_token: hgs_attest::fuzzing::fuzz_health_token;
    health_statement: hgs_pki::fuzzing::fuzz_health_statement;
    host_facts: hgs_trace::fuzzing::fuzz_host_facts;
    http_connection: hgs_server::http::fuzzing::fuzz_connection;
    ima_log: hgs_tcg::fuzzing::fuzz_ima_log;
    id_token: hgs_openid::fuzzing::fuzz_id_token;
    image: hgs_tcg::image::fuzzing::fuzz_image;
    kps_error: hgs_kps::fuzzing::fuzz_error;
    libvirt_domain: hgs_vm::libvirt::fuzz_libvirt_domain, hgs_vm::libvirt::fuzz_existing_machine;
    measured_boot: hgs_attest::policy::fuzzing::fuzz_boot;
    metadata: hgs_protector::fuzzing::fuzz_metadata;
    migration_message: hgs_agent::fuzz_migration_message;
    oaep_encoding: hgs_crypto::rsa::oaep::fuzz_oaep_encoding;
    openid_provider: hgs_openid::fuzzing::fuzz_openid_provider;
    pcrlock: hgs_attest::policy::fuzzing::fuzz_pcrlock;
    pfx: hgs_custody::pfx::fuzz_pfx;
    pkcs11_uri: hgs_custody::pkcs11_uri::fuzz_pkcs11_uri;
    pkcs7: hgs_pki::fuzzing::fuzz_pkcs7;
    pki_text: hgs_pki::fuzzing::fuzz_text;
    platform_identity: hgs_attest::fuzzing::fuzz_platform_identity;
    policy_document: hgs_attest::policy::fuzzing::fuzz_policy_document;
    protector: hgs_protector::fuzzing::fuzz_protector;
    qmp_message: hgs_vm::qemu::qmp::fuzz_qmp_message;
    roll_request: hgs_kps::fuzzing::fuzz_request;
    roll_response: hgs_kps::fuzzing::fuzz_response;
    rtpm_context: hgs_attest::fuzzing::fuzz_rtpm_context;
    sealed_file: hgs_client::sealed_file::fuzz_sealed_file;
    signature_database: hgs_tcg::image::fuzzing::fuzz_signature_database;
    signed_response: hgs_kps::fuzzing::fuzz_signed_response;
    signing_certificates: hgs_attest::fuzzing::fuzz_signing_certificates;
    state_document: hgs_store::backup::fuzzing::fuzz_state_document;
    tpm_command: hgs_tcg::tpm::fuzzing::fuzz_command;
    tpm_public: hgs_tcg::tpm::fuzzing::fuzz_public;
    tpm_response: hgs_tcg::tpm::fuzzing::fuzz_response;
    tpm_session_state: hgs_tcg::tpm::fuzzing::fuzz_session_state;
    transport_key_blob: hgs_protector::fuzzing::fuzz_transport_key_blob;
    variable_data: hgs_tcg::image::fuzzing::fuzz_variable_data;
    vm_documents: hgs_vm::description::fuzz_description, hgs_vm::protection::fuzz_protection;
    xml_document: hgs_xml::fuzzing::fuzz_document;
};

/// What may be kept in the tree: octets for a target, and inputs.
const MOST_OCTETS: u64 = 24_000;
const MOST_INPUTS: usize = 80;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names_in(folder: &str, suffix: &str) -> BTreeSet<String> {
    fs::read_dir(fuzz().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(suffix).expect(suffix).to_owned())
        .collect()
}

fn names() -> BTreeSet<String> {
    TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect()
}

#[test]
fn no_input_that_was_kept_upsets_its_target() {
    assert_eq!(
        names_in("corpus", ""),
        names(),
        "fuzz/corpus has a folder for each target"
    );
    for target in TARGETS {
        let mut inputs = 0;
        let mut octets = 0;
        for entry in fs::read_dir(fuzz().join("corpus").join(target.name)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            // A panic names its own place and not its input.
            eprintln!("{}", path.display());
            target.bodies.iter().for_each(|(_, body)| body(&input));
            inputs += 1;
            octets += input.len() as u64;
        }
        assert!(
            (1..=MOST_INPUTS).contains(&inputs),
            "{}: {inputs} inputs",
            target.name
        );
        assert!(octets <= MOST_OCTETS, "{}: {octets} octets", target.name);
    }
}

#[test]
fn the_targets_call_the_bodies_that_are_tested_here() {
    assert_eq!(names_in("fuzz_targets", ".rs"), names());
    for target in TARGETS {
        let path = fuzz().join(format!("fuzz_targets/{}.rs", target.name));
        let source = fs::read_to_string(path).unwrap();
        let called = source.matches("(data)").count();
        assert_eq!(called, target.bodies.len(), "{}", target.name);
        for (body, _) in target.bodies {
            assert!(
                source.contains(&format!("{body}(data)")),
                "{}: {body}",
                target.name
            );
        }
    }
}

#[test]
fn each_target_is_built_and_is_in_one_class() {
    let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let built = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(built.collect::<BTreeSet<_>>(), names());

    let listed = Command::new(fuzz().join("run"))
        .arg("--list")
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut classified: Vec<_> = listed
        .lines()
        .flat_map(|class| class.split_whitespace().skip(1))
        .collect();
    classified.sort_unstable();
    assert!(
        classified
            .iter()
            .copied()
            .eq(names().iter().map(String::as_str)),
        "{classified:?}"
    );
}
