//! What `packaging/` says of itself: each file is in a package, and each package's files exist. `packaging/test-packages` tests
//! the packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files that the package of `crates/NAME` takes, below the workspace; what `packaging/build-packages` makes is left out.
fn sources(name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(workspace().join("crates").join(name).join("Cargo.toml"));
    let manifest: toml::Table = manifest.unwrap().parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array();
    let sources = assets
        .unwrap()
        .iter()
        .map(|asset| asset[0].as_str().unwrap());
    let ours = sources.filter_map(|source| source.strip_prefix("../../"));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_unit_is_in_a_package_and_what_packages_take_exists() {
    let mut packed = BTreeSet::new();
    for source in ["hgs", "guarded-host"].into_iter().flat_map(sources) {
        assert!(
            source.ends_with("*.md") || workspace().join(&source).is_file(),
            "there is no {source}"
        );
        packed.insert(source);
    }
    for entry in fs::read_dir(workspace().join("packaging/systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            packed.contains(&format!("packaging/systemd/{name}")),
            "no package has {name}"
        );
    }
}

/// The judge counts from 0 to 10 what a service may do beyond its work.
#[test]
fn services_are_exposed_as_little_as_they_are_now() {
    let systemd_analyze = hgs_testkit::tool("systemd-analyze", "systemd");
    for (unit, most) in EXPOSURE {
        let output = Command::new(&systemd_analyze)
            .args([
                "security",
                "--no-pager",
                "--offline=true",
                "--threshold",
                most,
            ])
            .arg(workspace().join("packaging/systemd").join(unit))
            .output()
            .unwrap();
        let judgement = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{unit}: {judgement}");
    }
}

/// In tenths: 1.8, 1.1, 2.4 and 4.6 with the systemd of Debian 12, and room for what later ones add.
const EXPOSURE: [(&str, &str); 4] = [
    ("openhgs.service", "20"),
    ("openhgs-backup.service", "12"),
    ("guarded-host.service", "26"),
    ("guarded-host-agent.service", "48"),
];
