//! Secrets that TPMs in software seal to PCRs and a counter, judged by tpm2-tools.

use std::fs;

use hgs_crypto::SecretBytes;
use hgs_crypto::hash::Sha256Digest;
use hgs_custody_tpm::{Device, Seal, Tpm, TpmError};
use hgs_tcg::tpm::manufacture::persist;
use hgs_tcg::tpm::{
    self, Command, Counter, KeyUseError, PcrSelection, Primary, SealedObject, StorageRootKey,
    policy_pcr,
};
use hgs_testkit::swtpm::SoftwareTpm;

const COUNTER: Counter = Counter::at(0x0180_4801);
const PCRS: [u8; 3] = [0, 4, 7];
const SECRET: &[u8] = b"a transport key of 32 octets, ok";

/// What is sealed to, as the host keeps it.
struct Sealed {
    root: StorageRootKey,
    policy: Sha256Digest,
    value: u64,
    object: SealedObject,
}

fn seal_to<'a>(root: &'a StorageRootKey, pcr_policy: &'a Sha256Digest, value: u64) -> Seal<'a> {
    Seal {
        storage_root_key: root,
        pcrs: PcrSelection::new(PCRS).unwrap(),
        pcr_policy,
        counter: COUNTER,
        value,
    }
}

fn sealed(tpm: &mut Tpm) -> Sealed {
    let value = tpm.define_counter(COUNTER).unwrap();
    let values = tpm.pcr_values().unwrap();
    let values = PCRS.map(|pcr| {
        let value = values.value(pcr.into()).unwrap();
        value.as_bytes().try_into().unwrap()
    });
    let policy = policy_pcr(PcrSelection::new(PCRS).unwrap(), &values).unwrap();
    let (root, _) = tpm.storage_root_key().unwrap();
    let object = tpm
        .seal(&seal_to(&root, &policy, value), &SecretBytes::from(SECRET))
        .unwrap();
    Sealed {
        root,
        policy,
        value,
        object,
    }
}

impl Sealed {
    fn open(&self, tpm: &mut Tpm) -> Result<SecretBytes, TpmError> {
        let seal = seal_to(&self.root, &self.policy, self.value);
        tpm.unseal(&seal, &self.object)
    }
}

fn open(device: &Device) -> Tpm {
    Tpm::open(device, None).unwrap()
}

fn loaded(tpm: &mut SoftwareTpm) -> String {
    ["handles-transient", "handles-loaded-session"]
        .map(|which| {
            let output = tpm.tool("tpm2_getcap", &[which]);
            String::from_utf8(output.stdout).unwrap()
        })
        .concat()
}

#[test]
fn a_secret_opens_until_the_counter_goes_on() {
    let mut simulated = SoftwareTpm::new();
    let device = simulated.device();
    let mut tpm = open(&device);
    let sealed = sealed(&mut tpm);
    for _ in 0..2 {
        assert_eq!(sealed.open(&mut tpm).unwrap().expose(), SECRET);
    }
    let next = tpm.increment(COUNTER).unwrap();
    assert_eq!(next, sealed.value + 1);
    assert!(matches!(
        sealed.open(&mut tpm),
        Err(TpmError::CounterChanged)
    ));
    // A counter that is made again goes on where the old one was.
    tpm.remove_counter(COUNTER).unwrap();
    tpm.remove_counter(COUNTER).unwrap();
    assert_eq!(tpm.counter(COUNTER).unwrap(), None);
    assert!(sealed.open(&mut tpm).is_err());
    assert!(tpm.define_counter(COUNTER).unwrap() > next);
    assert!(matches!(
        sealed.open(&mut tpm),
        Err(TpmError::CounterChanged)
    ));
    drop(tpm);
    assert_eq!(loaded(&mut simulated), "");
}

#[test]
fn other_pcrs_another_tpm_and_a_cleared_one_open_nothing() {
    let mut simulated = SoftwareTpm::new();
    let device = simulated.device();
    let mut tpm = open(&device);
    let sealed = sealed(&mut tpm);
    tpm.extend_pcr(9, &[1; 32]).unwrap();
    assert!(sealed.open(&mut tpm).is_ok(), "PCR 9 is not in the policy");
    tpm.extend_pcr(7, &[1; 32]).unwrap();
    assert!(matches!(
        sealed.open(&mut tpm),
        Err(TpmError::KeyUse(KeyUseError::PcrsChanged))
    ));
    drop(tpm);
    simulated.restart();
    assert!(sealed.open(&mut open(&device)).is_ok(), "as it was sealed");

    let mut other = SoftwareTpm::new();
    let mut tpm = open(&other.device());
    tpm.define_counter(COUNTER).unwrap();
    assert!(matches!(
        sealed.open(&mut tpm),
        Err(TpmError::OtherStorageRootKey)
    ));
    // Also if its host does not look at the key: the TPM does not load what another has encrypted.
    let (root, _) = tpm.storage_root_key().unwrap();
    let seal = seal_to(&root, &sealed.policy, sealed.value);
    let refused = tpm.unseal(&seal, &sealed.object).unwrap_err();
    assert!(refused.needs_new_key(), "{refused}");

    simulated.tool("tpm2_clear", &["-c", "p"]);
    let mut tpm = open(&device);
    assert_eq!(tpm.counter(COUNTER).unwrap(), None);
    assert!(matches!(
        sealed.open(&mut tpm),
        Err(TpmError::OtherStorageRootKey)
    ));
}

#[test]
fn an_index_of_another_program_is_left_alone() {
    let mut simulated = SoftwareTpm::new();
    let index = format!("{:#x}", COUNTER.index());
    let attributes = "ownerread|ownerwrite|authread|authwrite";
    simulated.tool("tpm2_nvdefine", &[&index, "-s", "8", "-a", attributes]);
    let mut tpm = open(&simulated.device());
    assert!(matches!(
        tpm.counter(COUNTER),
        Err(TpmError::ForeignIndex(0x0180_4801))
    ));
}

/// A process ended between the definition of the counter and its first value.
#[test]
fn a_counter_without_a_value_gets_one() {
    let mut simulated = SoftwareTpm::new();
    simulated.send(&COUNTER.define());
    let mut tpm = open(&simulated.device());
    assert_eq!(tpm.counter(COUNTER).unwrap(), Some(1));
}

#[test]
fn the_clock_goes_on() {
    let mut simulated = SoftwareTpm::new();
    let mut tpm = open(&simulated.device());
    let before = tpm.clock().unwrap();
    assert!(tpm.clock().unwrap() >= before);
    drop(tpm);
    let said = simulated.tool("tpm2_readclock", &[]);
    let said = String::from_utf8(said.stdout).unwrap();
    let clock = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("clock: "));
    assert!(clock.unwrap().parse::<u64>().unwrap() >= before, "{said}");
}

/// tpm2-tools make the same policy, open the object with it before the counter goes on, and not after.
#[test]
fn tpm2_tools_open_it_before_the_counter_goes_on_and_not_after() {
    let mut simulated = SoftwareTpm::new();
    let folder = simulated.folder().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let device = simulated.device();
    let mut tpm = open(&device);
    let sealed = sealed(&mut tpm);
    drop(tpm);
    let sized = |octets: &[u8]| [&(octets.len() as u16).to_be_bytes(), octets].concat();
    fs::write(path("private"), sized(sealed.object.private())).unwrap();
    fs::write(path("public"), sized(sealed.object.public())).unwrap();
    fs::write(path("value"), sealed.value.to_be_bytes()).unwrap();
    // The storage root key, where tpm2-tools find it.
    let created = simulated.send(&Command::CreatePrimary(Primary::StorageRootKey).octets());
    let root = tpm::created_primary(&created).unwrap().handle;
    simulated.send(&persist(root, 0x8100_0010));
    simulated.send(&tpm::flush_context(root));
    let index = format!("{:#x}", COUNTER.index());
    let unseal = |simulated: &mut SoftwareTpm| {
        let steps = [
            "tpm2_flushcontext -t".to_owned(),
            "tpm2_flushcontext -l".to_owned(),
            "tpm2_load -C 0x81000010 -u public -r private -c object".to_owned(),
            "tpm2_startauthsession --policy-session -S session".to_owned(),
            "tpm2_policypcr -S session -l sha256:0,4,7".to_owned(),
        ];
        for step in steps {
            let (tool, arguments) = step.split_once(' ').unwrap();
            simulated.tool(tool, &arguments.split(' ').collect::<Vec<_>>());
        }
        let policy_nv = ["-S", "session", "-i", "value", "-L", "policy", &index, "eq"];
        let satisfied = simulated.try_tool("tpm2_policynv", &policy_nv);
        satisfied.status.success().then(|| {
            let opened = simulated.tool("tpm2_unseal", &["-c", "object", "-p", "session:session"]);
            opened.stdout
        })
    };
    assert_eq!(unseal(&mut simulated).as_deref(), Some(SECRET));
    let policy = fs::read(path("policy")).unwrap();
    assert_eq!(policy, COUNTER.policy(&sealed.policy, sealed.value));

    open(&simulated.device()).increment(COUNTER).unwrap();
    assert_eq!(unseal(&mut simulated), None);
}
