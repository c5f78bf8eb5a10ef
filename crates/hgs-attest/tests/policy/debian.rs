//! The packages of Debian from which a recorded boot was made: what is predicted from their files is what was measured.
//! They are not part of the project; `crates/hgs-tcg/tests/image/debian-packages.sh` fetches them into a folder, which
//! `OPENHGS_BOOT_FILES` names.

use std::path::PathBuf;

use hgs_attest::policy::{
    Baseline, ExpectedEvent, Label, Prediction, PredictionError, Source, SourceKind,
};
use hgs_crypto::{hash::sha256, hex};
use hgs_pki::Time;
use hgs_tcg::image::OwnMokVariables;
use hgs_testkit::left_out;

use crate::common::{Boot, NOW, baseline_of, judged};
use crate::compiling::digest;

/// A file of the version that was booted.
fn booted(path: &str, of: &str) -> Option<Vec<u8>> {
    let root =
        std::env::var_os("OPENHGS_BOOT_FILES").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let octets = std::fs::read(root.join(path)).ok();
    let octets = octets.filter(|octets| hex::encode(&sha256(octets)) == of);
    if octets.is_none() {
        left_out(&format!(
            "the prediction of {path} (not there, or of another version)"
        ));
    }
    octets
}

/// The boot against a baseline whose `slots` of the component are of an older version, with what is predicted.
#[track_caller]
fn assert_predicted(
    component: &str,
    slots: &[&str],
    predict: impl Fn(&Baseline, &Label) -> Result<Prediction, PredictionError>,
) {
    let boot = Boot::recorded("secure-boot-on");
    let mut older = baseline_of(&boot.proved());
    let of = older
        .components
        .iter_mut()
        .find(|of| of.name == component)
        .unwrap();
    for events in of.alternatives[0]
        .events
        .iter_mut()
        .filter(|events| slots.contains(&events.slot.as_str()))
    {
        for (place, event) in events.events.iter_mut().enumerate() {
            // The last of the lists in PCR 14 is a constant of shim's program.
            if events.slot == "mok-lists" && place == 2 {
                continue;
            }
            // What is measured several times stays one image.
            let place = if component == "kernel" { 0 } else { place };
            let former = format!("former {} {place}", events.slot);
            *event = ExpectedEvent::digest(digest(&former), &former);
        }
    }
    assert!(!judged(&boot, &older).is_healthy());
    let label = Label {
        name: "predicted".to_owned(),
        source: Source {
            kind: SourceKind::Package,
            of: "a package of Debian".to_owned(),
        },
        expires: Time::from_unix(NOW.unix() + 1),
    };
    let prediction = predict(&older, &label).unwrap();
    older.stage(&prediction);
    let evaluation = judged(&boot, &older);
    assert!(evaluation.is_healthy(), "{evaluation}");
    let used: Vec<_> = evaluation
        .used()
        .iter()
        .filter(|used| used.staged)
        .collect();
    assert!(
        used.len() == 1 && used[0].component == component,
        "{used:?}"
    );
}

#[test]
fn the_shim_of_debian_is_predicted_as_it_was_measured() {
    let path = "usr/lib/shim/shimx64.efi.signed";
    let Some(file) = booted(
        path,
        "0fc347af103ec1dfac6e3f184c0a5241a2ce756a0932b359c404d39c45423806",
    ) else {
        return;
    };
    assert_predicted(
        "shim",
        &["image", "mok-lists", "sbat-level", "authority"],
        |baseline, label| baseline.predict_shim(label, &file, &OwnMokVariables::default()),
    );
}

#[test]
fn the_grub_of_debian_is_predicted_as_it_was_measured() {
    let path = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
    let Some(file) = booted(
        path,
        "78313ff24688c8b2e1d4f4e1eff13236b2bd29b0f76ba749fd7fff4d305a1d94",
    ) else {
        return;
    };
    assert_predicted("loader", &["image"], |baseline, label| {
        baseline.predict_loader(label, &file)
    });
}

#[test]
fn the_kernel_of_debian_is_predicted_as_it_was_measured() {
    let path = "boot/vmlinuz-6.1.0-56-cloud-amd64";
    let Some(file) = booted(
        path,
        "51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275",
    ) else {
        return;
    };
    assert_predicted("kernel", &["image", "file"], |baseline, label| {
        baseline.predict_kernel(label, &file, None)
    });
}
