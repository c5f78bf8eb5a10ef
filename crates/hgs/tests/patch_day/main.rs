//! A patch day: 64 hosts of one model, each with a TPM, a disk and a boot order of its own. What was predicted attests at
//! once; what was not is refused by name, and approved once for all that booted the same.

#[path = "../common/mod.rs"]
mod common;
mod fleet;

use std::fs;
use std::path::PathBuf;

use common::served::{Served, configure};
use common::{Home, Outcome};
use fleet::{Host, Software};
use hgs_custody_tpm::simulator::SimulatorAuthority;
use hgs_testkit::made_image::plain;
use hgs_testkit::measured_boot::{MeasuredBoot, extend};
use hgs_testkit::swtpm::SoftwareTpm;
use serde_json::Value;

const HOSTS: u16 = 64;
/// Hosts that attest where the others would add nothing but time.
const SOME: usize = 8;
/// The host whose operator changed something that is not in the update.
const STRANGER: Host = Host(41);
const REAL: &[u8] = include_bytes!("../../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");

/// A host with its TPM, and the folder with what it keeps.
struct Machine {
    host: Host,
    tpm: SoftwareTpm,
    folder: PathBuf,
}

impl Machine {
    fn new(home: &Home, host: Host, authority: &SimulatorAuthority, url: &str) -> Self {
        let folder = home.file(&host.name());
        fs::create_dir(&folder).unwrap();
        let mut tpm = SoftwareTpm::certified(authority);
        let configuration = format!(
            "mode = \"local\"\n\
             [tpm]\ndevice = \"{}\"\nevent_log = \"{}\"\nima_log = \"{}\"\n",
            tpm.device(),
            folder.join("log").display(),
            folder.join("ima").display(),
        );
        fs::write(folder.join("guarded-host.toml"), configuration).unwrap();
        let machine = Self { host, tpm, folder };
        machine.run(&format!("configure {url}")).done();
        machine
    }

    fn boot(&mut self, real: &MeasuredBoot, software: &Software) {
        let boot = self.host.boot(real, software);
        boot.replay(&mut self.tpm);
        let (ima, extensions) = fleet::ima(&boot.pcrs(), software);
        for digest in &extensions {
            extend(&mut self.tpm, 10, digest);
        }
        self.tpm.release();
        fs::write(self.folder.join("log"), boot.log()).unwrap();
        fs::write(self.folder.join("ima"), ima).unwrap();
    }

    fn run(&self, words: &str) -> Outcome {
        Outcome::of(&mut common::guarded_host(&self.folder, words))
    }
}

/// The hosts that attest, and those that are refused, with the reasons.
#[track_caller]
fn attest(machines: &[Machine]) -> (Vec<Host>, Vec<(Host, String)>) {
    let (mut healthy, mut refused) = (Vec::new(), Vec::new());
    for machine in machines {
        let outcome = machine.run("attest --kind encryption");
        match outcome.status {
            0 => healthy.push(machine.host),
            2 => refused.push((machine.host, outcome.err)),
            _ => panic!("{}: {outcome:?}", machine.host.name()),
        }
    }
    (healthy, refused)
}

/// A guardian in TPM mode with the fleet registered, each host as it was before the patch day.
struct Fabric {
    home: Home,
    _guardian: Served,
    real: MeasuredBoot,
    machines: Vec<Machine>,
}

impl Fabric {
    fn new() -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name fabric").done();
        let guardian = Served::start(&home);
        let authority = SimulatorAuthority::new().unwrap();
        let real = MeasuredBoot::of_log(REAL);
        let hosts = (0..HOSTS).map(Host);
        let machines = hosts.map(|host| Machine::new(&home, host, &authority, &guardian.url()));
        let mut fabric = Self {
            machines: machines.collect(),
            home,
            _guardian: guardian,
            real,
        };
        let roots = authority.certificates().unwrap().concat();
        fabric.home.write("roots.pem", roots);
        fabric.hgs("ek-root add roots.pem").done();
        fabric.hgs("server set --attestation-mode tpm").done();
        fabric.boot(&Software::before());
        fabric.register();
        fabric
    }

    fn hgs(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml --yes"))
    }

    fn json(&self, words: &str) -> Value {
        self.hgs(&format!("{words} --json")).json()
    }

    fn boot(&mut self, software: &Software) {
        for machine in &mut self.machines {
            machine.boot(&self.real, software);
        }
    }

    /// Registers the hosts and what they measure now.
    fn register(&self) {
        fs::create_dir(self.home.file("identities")).unwrap();
        for machine in &self.machines {
            let name = machine.host.name();
            let identity = self.home.file("identities").join(format!("{name}.json"));
            machine
                .run(&format!("identity export --out {}", identity.display()))
                .done();
            machine
                .run("baseline export --out baseline.json --host-measurements own.json")
                .done();
        }
        self.hgs("host add --identities identities").done();
        self.hgs("baseline add model-a host000/baseline.json")
            .done();
        for machine in &self.machines {
            let name = machine.host.name();
            self.hgs(&format!("host set {name} --measurements {name}/own.json"))
                .done();
        }
        self.write_programs(&Software::before());
        self.hgs("ci-policy new programs --set before --out ci.json")
            .done();
        self.hgs("ci-policy add programs ci.json").done();
    }

    fn write_programs(&self, software: &Software) {
        for (path, contents) in &software.programs {
            let file = self
                .home
                .file("programs")
                .join(path.trim_start_matches('/'));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, contents).unwrap();
        }
    }

    /// Approves what the files of an update bring, before a host boots it.
    fn predict(&self, software: &Software) {
        self.home.write("shimx64.efi.signed", &software.shim);
        self.home.write("vmlinuz", &software.kernel);
        self.home.write("dbx", &software.revoked);
        self.hgs("baseline predict model-a shimx64.efi.signed vmlinuz --variable dbx=dbx")
            .done();
        self.write_programs(software);
        self.hgs("ci-policy new programs --set after --add-to ci.json --out ci.json")
            .done();
        self.hgs("ci-policy set programs ci.json").done();
    }

    /// What `hgs policy simulate` says of every host: those that would be refused, by what they have in common.
    fn refused(&self) -> Vec<(String, Vec<String>)> {
        let judged = self.json("policy simulate --against-evidence");
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for host in judged.as_array().unwrap() {
            if host["healthy"] == true {
                continue;
            }
            let name = host["host"].as_str().unwrap().to_owned();
            let group = host["difference_group"].as_str().unwrap_or("-").to_owned();
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, names)) => names.push(name),
                None => groups.push((group, vec![name])),
            }
        }
        groups
    }
}

#[test]
fn sixty_four_hosts_take_an_update_that_was_predicted_and_one_that_was_not() {
    let mut fabric = Fabric::new();
    let all = usize::from(HOSTS);
    let (healthy, refused) = attest(&fabric.machines[..SOME]);
    assert_eq!((healthy.len(), refused), (SOME, Vec::new()));

    // Firmware is known from the log of one host that has it.
    let (before, after) = (Software::before(), Software::after());
    let firmware = Software {
        firmware: after.firmware,
        ..before.clone()
    };
    fabric.machines[0].boot(&fabric.real, &firmware);
    let (_, refused) = attest(&fabric.machines[..1]);
    assert!(refused[0].1.contains("PCR 0, event 2"), "{refused:?}");
    let approved = fabric.json("host approve host000 --label firmware-2");
    assert_eq!(approved[0]["components"], serde_json::json!(["firmware"]));
    let (_, refused) = attest(&fabric.machines[..1]);
    assert_eq!(refused, Vec::new());

    // The rest is known from files. What hosts have booted stays accepted.
    fabric.predict(&after);
    let unseen = fabric.refused();
    assert_eq!(unseen.len(), 1, "{unseen:?}");
    assert_eq!(unseen[0].1.len(), all - SOME, "those that never attested");

    fabric.boot(&after);
    let strange = Software {
        loader: plain().with(".data", b"another loader").octets(),
        ..after.clone()
    };
    fabric.machines[usize::from(STRANGER.0)].boot(&fabric.real, &strange);
    let (healthy, refused) = attest(&fabric.machines);
    assert_eq!(healthy.len(), all - 1, "{refused:?}");
    let [(host, reason)] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(*host, STRANGER);
    assert!(reason.contains("PCR 4, event 30"), "{reason}");
    assert_eq!(fabric.refused()[0].1, [STRANGER.name()]);

    // A loader that nobody predicted reaches all of them.
    let next = Software {
        loader: plain().with(".data", b"loader 2").octets(),
        ..after
    };
    fabric.boot(&next);
    let (_, refused) = attest(&fabric.machines);
    assert_eq!(refused.len(), all);
    let groups = fabric.refused();
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(groups[0].1.len(), all);
    let approved = fabric.json("host approve --like host005 --label loader-2");
    assert_eq!(approved.as_array().unwrap().len(), all);
    assert_eq!(fabric.refused(), Vec::new());
    let (healthy, refused) = attest(&fabric.machines[..SOME]);
    assert_eq!((healthy.len(), refused), (SOME, Vec::new()));

    // What no host boots any more is taken back.
    let retired = fabric.json("baseline retire model-a --unused");
    let retired = retired.to_string();
    for component in ["firmware", "shim", "kernel", "loader", "secure-boot"] {
        assert!(retired.contains(component), "{component}: {retired}");
    }
    let retired = fabric.json("ci-policy retire programs --unused");
    assert_eq!(retired["sets"], serde_json::json!(["before"]));
    assert_eq!(fabric.refused(), Vec::new());
    fabric.machines[0].boot(&fabric.real, &before);
    let (_, refused) = attest(&fabric.machines[..1]);
    assert!(refused[0].1.contains("was retired"), "{refused:?}");
    let records = fabric.json("audit list --action change-policy-document --limit 20");
    assert!(records.to_string().contains("PCR 4, event 30"), "{records}");
}
