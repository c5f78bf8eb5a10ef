//! Keys that a host keeps to start VMs while no guardian can be reached.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hgs_client::{COUNTER_INDEX, Error, KeptKey, KeptKeyError, Unwrapped};
use hgs_clock::Clock as _;
use hgs_custody_tpm::{Tpm, TpmError};
use hgs_pki::Seconds;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_tcg::tpm::{Counter, KeyUseError};

use crate::guardian::{Manner, TestHost};
use crate::tpm::World;
use crate::unwrap::Vm;

const COUNTER: Counter = Counter::at(COUNTER_INDEX);
const VM: &str = "0d5e3a86-3d2c-4e5b-9a35-6a3ff3c3b7a1";

/// A host that may start a VM so often within an hour, and has started it once.
async fn world(unwraps: u32) -> (World, Vm) {
    let world = World::new().await;
    allow(&world, unwraps);
    let vm = Vm::of("fabric");
    start(&world.host, &vm).await.unwrap();
    (world, vm)
}

fn allow(world: &World, max_offline_unwraps: u32) {
    let end = world.host.host.now().checked_add(Seconds::from_hours(1));
    world.guardian.world().caching = Some(CachingPolicy {
        max_offline_unwraps,
        expiry: end.unwrap().unix().try_into().unwrap(),
    });
}

/// As an agent does: the key of the protector that is current now is kept.
async fn start(host: &TestHost, vm: &Vm) -> Result<Unwrapped, Error> {
    let unwrapped = vm.start(host).await?;
    host.host.keep_key(VM, &unwrapped).await?;
    Ok(unwrapped)
}

async fn use_kept(host: &TestHost, vm: &Vm) -> Result<KeptKey, Error> {
    let protector = fs::read(vm.protector()).unwrap();
    host.host.use_kept_key(&protector).await
}

fn refused(outcome: Result<KeptKey, Error>) -> KeptKeyError {
    match outcome {
        Err(Error::KeptKey(error)) => error,
        other => panic!("{other:?}"),
    }
}

impl World {
    fn folder(&self) -> PathBuf {
        self.host.state().join("kept-keys")
    }

    /// What is in the folder.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.folder()) else {
            return BTreeMap::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    fn counter(&mut self) -> Option<u64> {
        let mut tpm = Tpm::open(&self.tpm.device(), None).unwrap();
        tpm.counter(COUNTER).unwrap()
    }

    fn away(&self) {
        self.guardian.world().manner = Manner::NoKeys(503);
    }

    fn back(&self) {
        self.guardian.world().manner =
            Manner::Mode(hgs_attest::wire::AttestationOperationMode::Tpm);
    }
}

fn put_back(files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, octets) in files {
        write_private(path, octets);
    }
}

fn write_private(path: &Path, octets: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, octets).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn without_leave_nothing_is_kept() {
    let mut world = World::new().await;
    let vm = Vm::of("fabric");
    start(&world.host, &vm).await.unwrap();
    assert_eq!(world.files(), BTreeMap::new());
    assert!(!world.folder().exists());
    assert_eq!(world.counter(), None);
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::NotKept), "{error}");

    // What was kept goes when it is no longer allowed.
    allow(&world, 3);
    start(&world.host, &vm).await.unwrap();
    assert_eq!(world.files().len(), 1);
    assert!(world.counter().is_some());
    world.guardian.world().caching = None;
    start(&world.host, &vm).await.unwrap();
    assert_eq!(world.files(), BTreeMap::new());
    assert_eq!(world.counter(), None);
}

#[tokio::test]
async fn a_kept_key_is_used_as_often_as_allowed_and_reported_once() {
    let (mut world, vm) = world(2).await;
    world.away();
    let error = vm.start(&world.host).await.unwrap_err();
    assert!(error.is_service_away(), "{error}");
    let before = world.counter().unwrap();
    for left in [1, 0] {
        let kept = use_kept(&world.host, &vm).await.unwrap();
        assert_eq!(kept.uses_left, left);
        let [_, file] = [vm.protector(), vm.protector().with_extension("state")].map(fs::read);
        kept.open(&file.unwrap()).unwrap();
    }
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::UsedUp), "{error}");
    assert_eq!(world.counter(), Some(before + 2));
    let [kept] = &world.host.host.kept_keys().unwrap()[..] else {
        panic!("one key is kept")
    };
    assert_eq!((kept.uses_left, kept.unreported), (0, 2));
    world.assert_no_slot_is_taken();

    // The guardian hears of it once, and what is kept is renewed. The protector stays the current one.
    assert!(world.host.host.report_offline_use().await.is_err());
    world.back();
    let current = fs::read(vm.protector()).unwrap();
    assert_eq!(world.host.host.report_offline_use().await.unwrap(), 1);
    assert_eq!(world.host.host.report_offline_use().await.unwrap(), 0);
    assert_eq!(world.guardian.world().reports, [2]);
    world.away();
    assert_eq!(use_kept(&world.host, &vm).await.unwrap().uses_left, 1);
    world.back();
    assert_eq!(fs::read(vm.protector()).unwrap(), current);
    // Or with the next start.
    start(&world.host, &vm).await.unwrap();
    start(&world.host, &vm).await.unwrap();
    assert_eq!(world.guardian.world().reports, [2, 1]);
    assert_eq!(world.files().len(), 1, "one key for each VM");
}

#[tokio::test]
async fn a_kept_key_expires_also_when_the_clock_is_turned_back() {
    let (world, vm) = world(9).await;
    let clock = world.host.clock().clone();
    world.away();
    use_kept(&world.host, &vm).await.unwrap();
    clock.advance(Seconds::from_minutes(50));
    use_kept(&world.host, &vm).await.unwrap();

    // Turned back behind the last use: the time of that counts, and what the TPM has counted since.
    let early = crate::guardian::TestClock::new();
    let host = world.host.with_clock(&early);
    use_kept(&host, &vm).await.unwrap();
    let file = fs::read_dir(host.state().join("kept-keys")).unwrap().next();
    let text = fs::read_to_string(file.unwrap().unwrap().path()).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let last = early.now().checked_add(Seconds::from_minutes(50)).unwrap();
    assert!(kept["described"]["time"].as_i64().unwrap() >= last.unix());

    let host = host.with_clock(&clock);
    clock.advance(Seconds::from_minutes(10));
    use_kept(&host, &vm).await.unwrap();
    clock.advance(Seconds::new(1));
    let error = refused(use_kept(&host, &vm).await);
    assert!(matches!(error, KeptKeyError::Expired(_)), "{error}");
}

#[tokio::test]
async fn another_boot_another_tpm_and_a_cleared_one_open_nothing() {
    let (mut world, vm) = world(9).await;
    world.away();
    let voided = |error: KeptKeyError| match error {
        KeptKeyError::Tpm(error) => error,
        other => panic!("{other}"),
    };
    // A PCR that no identity key is bound to, and one that is.
    let extend = |world: &mut World, pcr| {
        let mut tpm = Tpm::open(&world.tpm.device(), None).unwrap();
        tpm.extend_pcr(pcr, &[1; 32]).unwrap();
    };
    extend(&mut world, 16);
    use_kept(&world.host, &vm).await.unwrap();
    extend(&mut world, 7);
    let error = voided(refused(use_kept(&world.host, &vm).await));
    let changed = TpmError::KeyUse(KeyUseError::PcrsChanged);
    assert_eq!(error.to_string(), changed.to_string());

    // All that the host has on its disk, beside another TPM that has booted the same.
    let other = World::new().await;
    other
        .host
        .host
        .attest(
            hgs_pki::health::HealthKind::Encryption,
            hgs_client::service::Sides::Both,
        )
        .await
        .unwrap();
    hgs_files_private(&other.folder());
    let mut tpm = other.tpm;
    let mut opened = Tpm::open(&tpm.device(), None).unwrap();
    let first = opened.define_counter(COUNTER).unwrap();
    drop(opened);
    let (number, octets) = world.files().pop_first().unwrap();
    let number: u64 = number
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    for _ in first..number {
        Tpm::open(&tpm.device(), None)
            .unwrap()
            .increment(COUNTER)
            .unwrap();
    }
    write_private(
        &other
            .host
            .state()
            .join("kept-keys")
            .join(format!("{number}.json")),
        &octets,
    );
    let error = voided(refused(use_kept(&other.host, &vm).await));
    assert!(matches!(error, TpmError::OtherStorageRootKey), "{error}");

    world.tpm.tool("tpm2_clear", &["-c", "p"]);
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::NotKept), "{error}");
    assert_eq!(world.files(), BTreeMap::new());
}

fn hgs_files_private(folder: &Path) {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
}

#[tokio::test]
async fn what_was_put_back_after_a_use_does_not_open() {
    let (mut world, vm) = world(2).await;
    world.away();
    let before = world.files();
    use_kept(&world.host, &vm).await.unwrap();
    let after = world.files();
    assert_ne!(before, after);
    put_back(&before);
    // Beside the newest it is passed over, and in its place it is not taken for it.
    assert_eq!(use_kept(&world.host, &vm).await.unwrap().uses_left, 0);
    for path in world.files().keys() {
        fs::remove_file(path).unwrap();
    }
    put_back(&before);
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::NotKept), "{error}");
    let octets = before.values().next().unwrap();
    let counter = world.counter().unwrap();
    let path = world.folder().join(format!("{counter}.json"));
    write_private(&path, octets);
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::Altered), "{error}");
    // Also with the number that it should have: the TPM has the last word, and the number is authenticated.
    let text = String::from_utf8(octets.clone()).unwrap();
    let number = before
        .keys()
        .next()
        .unwrap()
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap();
    let forged = text.replace(
        &format!("\"counter\":{number}"),
        &format!("\"counter\":{counter}"),
    );
    assert_ne!(forged, text);
    write_private(&path, forged.as_bytes());
    let error = refused(use_kept(&world.host, &vm).await);
    let policy = KeptKeyError::Tpm(TpmError::KeyUse(KeyUseError::PcrsChanged));
    assert_eq!(
        error.to_string(),
        policy.to_string(),
        "the policy is not satisfied"
    );
}

#[tokio::test]
async fn an_altered_file_or_a_counter_that_was_raised_by_hand_gives_no_key() {
    let (mut world, vm) = world(2).await;
    world.away();
    let (path, octets) = world.files().pop_first().unwrap();
    let text = String::from_utf8(octets.clone()).unwrap();
    for (from, to) in [
        ("\"uses_left\":2", "\"uses_left\":9"),
        ("\"until\":", "\"until\":9"),
    ] {
        let altered = text.replace(from, to);
        assert_ne!(altered, text);
        write_private(&path, altered.as_bytes());
        let error = refused(use_kept(&world.host, &vm).await);
        assert!(matches!(error, KeptKeyError::Altered), "{error}");
    }
    write_private(&path, &octets);
    let index = format!("{COUNTER_INDEX:#x}");
    world.tpm.tool("tpm2_nvincrement", &[&index]);
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::NotKept), "{error}");
    // The next start with a guardian begins anew.
    world.back();
    start(&world.host, &vm).await.unwrap();
    world.away();
    use_kept(&world.host, &vm).await.unwrap();
}

#[tokio::test]
async fn a_refusal_deletes_what_is_kept_and_copies_of_it_do_not_open() {
    // Of the host: everything.
    let (mut world, vm) = world(2).await;
    let before = world.files();
    world.guardian.revoke_all();
    let error = vm.start(&world.host).await.unwrap_err();
    assert!(!error.is_service_away(), "{error}");
    assert_eq!(world.files(), BTreeMap::new());
    assert_eq!(world.counter(), None);
    world.away();
    put_back(&before);
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::NotKept), "{error}");

    // Of one protector: its key.
    let (mut world, vm) = self::world(2).await;
    let other = Vm::of("fabric");
    let unwrapped = other.start(&world.host).await.unwrap();
    world.host.host.keep_key("other", &unwrapped).await.unwrap();
    assert_eq!(world.host.host.kept_keys().unwrap().len(), 2);
    let before = world.files();
    world.guardian.forget_keys();
    let error = vm.start(&world.host).await.unwrap_err();
    assert!(!error.is_service_away(), "{error}");
    let names: Vec<_> = world
        .host
        .host
        .kept_keys()
        .unwrap()
        .into_iter()
        .map(|kept| kept.name)
        .collect();
    assert_eq!(names, ["other"]);
    world.away();
    put_back(&before);
    let error = refused(use_kept(&world.host, &vm).await);
    assert!(matches!(error, KeptKeyError::NotKept), "{error}");
    use_kept(&world.host, &other).await.unwrap();
    assert!(world.counter().is_some());
    world.host.host.forget_key("other").await.unwrap();
    assert_eq!((world.files().len(), world.counter()), (0, None));
}

/// Another program has the place in the NV memory: the start is not affected.
#[tokio::test]
async fn a_tpm_without_the_counter_costs_the_offline_start_only() {
    let mut world = World::new().await;
    let index = format!("{COUNTER_INDEX:#x}");
    world.tpm.tool(
        "tpm2_nvdefine",
        &[
            &index,
            "-s",
            "8",
            "-a",
            "ownerread|ownerwrite|authread|authwrite",
        ],
    );
    allow(&world, 2);
    let vm = Vm::of("fabric");
    let unwrapped = vm.start(&world.host).await.unwrap();
    let error = world.host.host.keep_key(VM, &unwrapped).await.unwrap_err();
    assert!(
        error.to_string().contains("another program has made it"),
        "{error}"
    );
    vm.start(&world.host).await.unwrap();
}
