//! Records of where VMs stopped, with and without a TPM.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use hgs_client::configuration::TpmSettings;
use hgs_client::tpm::OtherTpm;
use hgs_client::{Folders, STOP_COUNTER_INDEX};
use hgs_testkit::swtpm::SoftwareTpm;

use super::*;

/// A host with a TPM that it is known by, or with none, and two VMs.
struct Site {
    root: tempfile::TempDir,
    host: GuardedHost,
}

impl Site {
    fn new(tpm: Option<&mut SoftwareTpm>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::inside(root.path());
        let device = match &tpm {
            None => root
                .path()
                .join("no-tpm")
                .display()
                .to_string()
                .parse()
                .unwrap(),
            Some(_) => TpmSettings::default().device,
        };
        let known = tpm.is_some();
        let settings = TpmSettings {
            device: tpm.map_or(device, SoftwareTpm::device),
            ..TpmSettings::default()
        };
        settings.store(&folders.configuration).unwrap();
        let host = GuardedHost::open(folders).unwrap();
        if known {
            host.platform_identity(OtherTpm::Refuse).unwrap();
        }
        let site = Self { root, host };
        for name in ["web1", "web2"] {
            site.write(name, "as it stopped");
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, state: &str) {
        let folder = self.path(name).join("gen-1");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&folder).unwrap();
        private(&folder.join("tpm2-00.permall"), state);
        private(&folder.join("protector.xml"), "a protector");
        private(&self.path(name).join("current"), "gen-1\n");
    }

    fn state(&self, name: &str) -> StateFolder {
        StateFolder::open(&self.path(name)).unwrap()
    }

    fn place(&self, name: &str) -> RecordPlace {
        RecordPlace::of(&self.host, self.path("vm-stops"), name)
    }

    fn note(&self, name: &str) {
        note(&self.state(name), &self.place(name)).unwrap();
    }

    fn forget(&self, name: &str) {
        forget(&self.place(name)).unwrap();
    }

    fn check(&self, name: &str) -> Result<(), String> {
        let checked = check(&self.state(name), &self.place(name), false);
        checked.map_err(|failure| failure.message)
    }

    #[track_caller]
    fn assert_refused(&self, name: &str, reason: &str) {
        let refused = self.check(name).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
        check(&self.state(name), &self.place(name), true).unwrap();
    }

    fn ledger(&self) -> String {
        fs::read_to_string(self.path("vm-stops/ledger")).unwrap()
    }
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn without_a_tpm_there_is_a_record_for_each_vm() {
    let site = Site::new(None);
    site.check("web1").unwrap();
    site.note("web1");
    site.check("web1").unwrap();
    site.write("web1", "another");
    site.assert_refused("web1", "not the one that it stopped with");
    site.forget("web1");
    site.check("web1").unwrap();
    assert!(!site.path("vm-stops/ledger").exists());
}

#[test]
fn records_are_bound_to_the_tpm_of_the_host() {
    let mut tpm = SoftwareTpm::new();
    let site = Site::new(Some(&mut tpm));
    // Nothing is written into the TPM before there is something to bind.
    site.check("web1").unwrap();
    site.forget("web1");
    assert_eq!(
        site.host.stop_counter().unwrap().unwrap().value().unwrap(),
        None
    );

    site.note("web1");
    site.note("web2");
    site.check("web1").unwrap();
    site.check("web2").unwrap();
    site.write("web1", "another");
    site.assert_refused("web1", "not the one that it stopped with");
    site.write("web1", "as it stopped");
    let index = format!("{STOP_COUNTER_INDEX:#x}");
    let said = tpm.tool("tpm2_nvreadpublic", &[&index]).stdout;
    assert!(
        String::from_utf8_lossy(&said).contains("nt=0x1"),
        "a counter"
    );

    // The whole disk as it was when web1 had stopped the first time: the state and its record fit together.
    let stopped = site.ledger();
    site.forget("web1");
    site.check("web1").unwrap();
    site.write("web1", "a later state");
    site.note("web1");
    site.write("web1", "as it stopped");
    private(&site.path("vm-stops/ledger"), &stopped);
    site.assert_refused("web1", "it was put back");
    site.assert_refused("web2", "it was put back");
    // What one administrator accepts for one VM says nothing about the other.
    site.forget("web1");
    site.note("web1");
    site.check("web1").unwrap();
    site.assert_refused("web2", "it was put back");
    site.note("web2");
    site.check("web2").unwrap();

    // A record that is gone, and a TPM that was cleared.
    let ledger = site.ledger();
    fs::remove_file(site.path("vm-stops/ledger")).unwrap();
    site.assert_refused("web1", "the records are gone");
    private(&site.path("vm-stops/ledger"), &ledger);
    site.check("web1").unwrap();
    tpm.tool("tpm2_clear", &["-c", "p"]);
    site.assert_refused("web1", "it was cleared, or is another");
    site.note("web1");
    site.check("web1").unwrap();
}

/// A crash after the ledger was written and before it was counted loses nothing, and an attacker gains nothing by it.
#[test]
fn a_change_that_was_not_counted_counts() {
    let mut tpm = SoftwareTpm::new();
    let site = Site::new(Some(&mut tpm));
    site.note("web1");
    let before = site.ledger();
    let counter = site.host.stop_counter().unwrap().unwrap();
    let value = counter.value().unwrap().unwrap();
    site.write("web1", "a later state");
    let later = Kept::of(&StopRecord::of(&site.state("web1").current().unwrap(), None).unwrap());
    let ledger = Ledger {
        counter: value + 1,
        records: [("web1".to_owned(), Some(later))].into(),
    };
    let uncounted = serde_json::to_string(&ledger).unwrap();
    private(&site.path("vm-stops/ledger"), &uncounted);
    site.check("web1").unwrap();
    site.note("web2");
    site.check("web1").unwrap();
    for old in [before, uncounted] {
        private(&site.path("vm-stops/ledger"), &old);
        site.assert_refused("web1", "it was put back");
    }
}

/// Records that were made before the host was known by its TPM.
#[test]
fn records_of_before_are_taken_over() {
    let without = Site::new(None);
    without.note("web1");
    without.note("web2");
    let mut tpm = SoftwareTpm::new();
    let site = Site::new(Some(&mut tpm));
    let folder = site.path("vm-stops");
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    for name in ["web1.json", "web2.json"] {
        let text = fs::read_to_string(without.path("vm-stops").join(name)).unwrap();
        private(&folder.join(name), &text);
    }
    site.check("web1").unwrap();
    site.write("web2", "another");
    site.assert_refused("web2", "not the one that it stopped with");
    site.note("web1");
    site.assert_refused("web2", "not the one that it stopped with");
}
