//! The second implementation, written in another language from the protocol profile alone, drives the real server.

mod guardian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use guardian::{Host, METADATA, Site};
use hgs_clock::SystemClock;
use hgs_crypto::random::System;
use hgs_custody::{SoftwareKey, pem};

/// Debian's interpreter, for which Debian's packages are; what comes first in the path may be another.
const PYTHON: &str = "/usr/bin/python3";

fn judge(arguments: &[&str]) -> String {
    let conformance = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    assert!(
        Path::new(PYTHON).exists(),
        "this test needs {PYTHON}: install the Debian packages python3-lxml and python3-cryptography"
    );
    let output = Command::new(PYTHON)
        .args(["-m", "openhgs_judge"])
        .args(arguments)
        .env("PYTHONPATH", conformance)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}:\n{text}{errors}");
    text
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_judge_has_a_whole_life_with_this_server() {
    let mut site = Site::initialised("").await;
    // The judge looks at certificates by the clock of the machine.
    site.restart_with(Arc::new(SystemClock)).await;
    let host = Host::numbered(0);
    site.register(&host, "judge").await;

    let path = |name: &str| -> PathBuf { site.folder.path().join(name) };
    let (owner, host_key, metadata) = (path("owner"), path("host-key.pem"), path("metadata.xml"));
    let key = SoftwareKey::from_pkcs8_der(host.host_key.pkcs8_der()).unwrap();
    let text = pem::write_private_key(&key, None, &mut System::new()).unwrap();
    fs::write(&host_key, text.as_bytes()).unwrap();
    fs::write(&metadata, site.get(METADATA).await.body).unwrap();

    let (protector, base) = (path("ingress.xml"), format!("http://{}", site.http()));
    let report = tokio::task::spawn_blocking(move || {
        judge(&["make-guardian", shown(&owner), "owner"]);
        let out = shown(&protector);
        let (owner, metadata) = (shown(&owner), shown(&metadata));
        judge(&[
            "make-protector",
            "--owner",
            owner,
            "--guardian",
            metadata,
            "--out",
            out,
        ]);
        let host_key = shown(&host_key);
        judge(&[
            "drive",
            &base,
            "--host-key",
            host_key,
            "--protector",
            out,
            "--owner",
            owner,
        ])
    })
    .await
    .unwrap();
    assert!(
        report
            .lines()
            .filter(|line| line.starts_with("ok "))
            .count()
            > 20,
        "{report}"
    );
    assert!(!report.contains("FAIL"), "{report}");
}
