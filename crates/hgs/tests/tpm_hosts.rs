//! Hosts that are known by their TPMs, and what they are judged by: the administrator's commands against a server that runs.

mod common;

use std::fs;

use common::served::{Served, configure};
use common::{Home, Outcome};
use hgs_attest::policy::{
    Alternative, Baseline, Component, ComponentKind, EventDigest, ExpectedEvent, LaneSlots,
    Parameters, Slot, SlotEvents, Source, SourceKind, State, Times,
};
use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::service::Sides;
use hgs_client::tpm::OtherTpm;
use hgs_client::{Folders, GuardedHost};
use hgs_crypto::{base64, hex};
use hgs_pki::health::HealthKind;
use hgs_testkit::measured_boot::MeasuredBoot;
use hgs_testkit::swtpm::{SoftwareTpm, altered_log};
use serde_json::{Value, json};

/// TCG's template L-1 up to `unique` (TCG EK Credential Profile, B.3.3).
const TEMPLATE: &str = "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa\
                        00060080004300100800000000000100";

/// Options of an authority's certificate, and of an EK certificate as TCG's profile wants it.
const AUTHORITY: &str =
    "-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign";
const EK: &str = "-subj / -addext basicConstraints=critical,CA:false \
     -addext keyUsage=critical,keyEncipherment -addext extendedKeyUsage=2.23.133.8.1 \
     -addext subjectAltName=critical,dirName:tpm";
const NAMES: &str = "[req]\ndistinguished_name = name\n[name]\n[tpm]\n\
     0.2.23.133.2.1 = id:494E5443\n0.2.23.133.2.2 = Model 7\n0.2.23.133.2.3 = id:00020008\n";

struct Site {
    home: Home,
    served: Option<Served>,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
            .done();
        home.write("openssl.cnf", NAMES);
        let served = Some(Served::start(&home));
        Self { home, served }
    }

    fn restart(&mut self) {
        let served = self.served.take().unwrap();
        assert_eq!(served.stop().0, Some(0));
        self.served = Some(Served::start(&self.home));
    }

    #[track_caller]
    fn ask(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml"))
    }

    #[track_caller]
    fn json(&self, words: &str) -> Value {
        self.ask(&format!("{words} --json")).done().json()
    }

    /// The file `NAME.pem` and `NAME.key` of an authority.
    fn authority(&self, name: &str, issuer: Option<&str>) {
        let issuer = issuer.map(|issuer| format!("-CA {issuer}.pem -CAkey {issuer}.key "));
        self.home.openssl(&format!(
            "req -config openssl.cnf -x509 -nodes -batch -days 3650 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
             {}-subj /CN={name} -keyout {name}.key -out {name}.pem {AUTHORITY}",
            issuer.unwrap_or_default()
        ));
    }

    /// The endorsement key of a TPM: `NAME.key`, and its TPMT_PUBLIC.
    fn tpm(&self, name: &str) -> Vec<u8> {
        self.home.openssl(&format!(
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {name}.key"
        ));
        let modulus = self
            .home
            .openssl(&format!("rsa -in {name}.key -noout -modulus"));
        let modulus = String::from_utf8(modulus).unwrap();
        let modulus = modulus.trim().strip_prefix("Modulus=").unwrap();
        hex::decode(&format!("{TEMPLATE}{modulus}")).unwrap()
    }

    /// The EK certificate of a TPM, in DER.
    fn certificate(&self, name: &str, issuer: &str) -> Vec<u8> {
        self.home.openssl(&format!(
            "req -config openssl.cnf -x509 -batch -days 3650 -key {name}.key -CA {issuer}.pem -CAkey {issuer}.key \
             -outform DER -out {name}.der {EK}"
        ));
        self.home.read(&format!("{name}.der"))
    }

    fn identity(&self, file: &str, public: &[u8], certificate: Option<&[u8]>) {
        let mut identity = json!({
            "kind": "openhgs-platform-identity",
            "version": 1,
            "endorsement_public": base64::encode(public),
            "smbios": {"system_serial_number": "B5R5VD2"},
        });
        if let Some(certificate) = certificate {
            identity["endorsement_certificate"] = base64::encode(certificate).into();
        }
        self.home.write(file, identity.to_string());
    }
}

#[test]
fn hosts_are_registered_by_their_tpms() {
    let mut site = Site::new();
    site.authority("root", None);
    site.authority("maker", Some("root"));
    let public = site.tpm("tpm1");
    let certificate = site.certificate("tpm1", "maker");
    site.identity("host1.json", &public, Some(&certificate));

    // Nobody vouches for it yet.
    site.ask("host add host1 --identity host1.json")
        .ended(2)
        .saying("no EK root is configured")
        .saying("hgs ek-root add");
    fs::create_dir_all(site.home.file("makers/more")).unwrap();
    fs::copy(
        site.home.file("maker.pem"),
        site.home.file("makers/more/maker.pem"),
    )
    .unwrap();
    site.home.write("makers/README", "certificates");
    site.ask("ek-root add makers/README").ended(2);
    let added = site.json("ek-root add makers");
    assert_eq!(added["roots"][0]["root"], false);
    assert!(added["roots"][0]["unused"].is_string(), "{added}");
    assert_eq!(added["refused"][0]["file"], "makers/README");
    site.ask("host add host1 --identity host1.json").ended(2);
    let root = site.json("ek-root add root.pem");
    assert_eq!(root["roots"][0]["root"], true);
    let thumbprint = root["roots"][0]["thumbprint"].as_str().unwrap().to_owned();
    site.ask("ek-root add root.pem makers")
        .done()
        .saying("2 were known already");
    let listed = site.json("ek-root list");
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["unused"].is_null())
    );

    let host = site.json("host add host1 --identity host1.json");
    assert_eq!(host["attestation_mode"], "tpm");
    assert_eq!(host["host_key_digest"], Value::Null);
    let shown = site.json("host show host1");
    assert_eq!(shown["tpm"]["manufacturer"], "INTC");
    assert_eq!(shown["tpm"]["system_serial_number"], "B5R5VD2");
    site.ask("host show host1")
        .done()
        .saying("Model 7")
        .saying("CN=maker");

    // One TPM is one host.
    site.ask("host add again --identity host1.json")
        .ended(2)
        .saying("registered already, for host host1");
    // A certificate of another TPM is refused, whatever the administrator says.
    let other = site.tpm("tpm2");
    site.identity("forged.json", &other, Some(&certificate));
    for words in ["", " --without-ek-certificate --yes"] {
        site.ask(&format!("host add forged --identity forged.json{words}"))
            .ended(2)
            .saying("over another key");
    }
    // A weak key is none, with or without a certificate.
    let weak = [&public[..public.len() - 256], &[0xff; 256]].concat();
    site.identity("weak.json", &weak, None);
    site.ask("host add weak --identity weak.json --without-ek-certificate --yes")
        .ended(2)
        .saying("endorsement key");
    site.home.write("nonsense.json", "{}");
    site.ask("host add x --identity nonsense.json").ended(2);
    // Without a certificate only on purpose, and on record.
    site.identity("host2.json", &other, None);
    site.ask("host add host2 --identity host2.json")
        .ended(2)
        .saying("no EK certificate")
        .saying("--without-ek-certificate");
    site.ask("host add host2 --identity host2.json --without-ek-certificate")
        .ended(2);
    site.ask("host add host2 --identity host2.json --without-ek-certificate --yes")
        .done();
    site.ask("audit list --host host2")
        .done()
        .saying("add-host");
    let records = site.json("audit list --host host2");
    let vouched = "without an EK certificate: the administrator vouches for the TPM";
    assert_eq!(records[0]["reason"], vouched);

    // Distrust does not take hosts away that are registered.
    site.ask(&format!("ek-root remove {thumbprint} --yes"))
        .done();
    site.ask(&format!("ek-root remove {thumbprint} --yes"))
        .ended(1);
    assert_eq!(site.json("host list").as_array().unwrap().len(), 2);

    // What only one host measures takes the place of nothing, and then of what is there; what it boots next is added to that.
    let own = |root: &str| {
        let kind = "openhgs-host-measurements";
        json!({"kind": kind, "version": 1, "parameters": {"root": root}}).to_string()
    };
    for root in ["0001", "0002"] {
        site.home.write("own.json", own(root));
        site.ask("host set host2 --measurements own.json").done();
    }
    site.ask("host set host2 --next-boot own.json").done();
    let records = site.json("audit list --host host2 --limit 3");
    for record in &records.as_array().unwrap()[..2] {
        let digest = hex::encode(&hgs_crypto::hash::sha256(own("0002").as_bytes()));
        assert_eq!(record["action"], "set-host-measurements");
        assert_eq!(records[1]["after"]["sha256"], json!(digest));
    }

    // The mode is part of the state.
    site.ask("server set --attestation-mode tpm").ended(2);
    let settings = site.json("server set --attestation-mode tpm --yes");
    assert_eq!(settings["attestation_mode"], "tpm");
    site.restart();
    assert_eq!(site.json("status")["attestation_mode"], "tpm");
    site.ask("server set --attestation-mode active-directory --yes")
        .ended(64);
    site.ask("server set --attestation-mode host-key --yes")
        .done();
    assert_eq!(site.json("status")["attestation_mode"], "host-key");

    // What was revoked or removed does not come back by itself.
    site.ask("host revoke host1 --reason stolen --yes").done();
    site.ask("host remove host1 --yes").done();
    site.ask("ek-root add root.pem").done();
    site.ask("host add host1 --identity host1.json")
        .ended(2)
        .saying("hgs host readmit host1");
    let removed = site.json("host list --removed");
    assert!(removed[0]["endorsement_key_digest"].is_string());
    site.ask("host readmit host1 --yes").done();
    site.ask("host deny --identity host1.json --reason lost")
        .done();
    site.ask("host add host1 --identity host1.json")
        .ended(2)
        .saying("denied");
}

#[test]
fn a_folder_of_identities_is_registered_a_hundred_at_a_time() {
    let site = Site::new();
    let public = site.tpm("tpm");
    fs::create_dir(site.home.file("rack")).unwrap();
    let names: Vec<_> = (0..3).map(|number| format!("host{number}")).collect();
    for name in &names {
        let public = site.tpm(name);
        site.identity(&format!("rack/{name}.json"), &public, None);
    }
    site.home.write("rack/notes.txt", "not an identity");
    site.ask("host add --identities rack").ended(2);
    site.ask("host-group new rack7").done();
    let words = "host add --identities rack --group Rack7 --without-ek-certificate --yes";
    let steps = site.ask(&format!("{words} --json")).done().out;
    let steps: Vec<Value> = steps
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = steps.last().unwrap();
    assert_eq!((&last["registered"], &last["of"]), (&json!(3), &json!(3)));
    assert!(
        last["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|host| host["group"] == "rack7")
    );
    site.identity("rack/host9.json", &public, None);
    site.ask(words)
        .done()
        .saying("1 of 1 hosts are registered; 3 were registered already.");
    // One that is wrong keeps all that come with it out.
    let more = site.tpm("more");
    site.identity("rack/more.json", &more, None);
    site.identity("rack/twice.json", &more, None);
    site.ask(words).ended(2);
    assert_eq!(site.json("host list").as_array().unwrap().len(), 4);
    site.home.write("rack/broken.json", "{");
    site.ask(words).ended(2).saying("rack/broken.json");
    site.ask("host-group remove rack7 --yes")
        .ended(2)
        .saying("has 4 hosts");
    site.ask("host set host0 --group default").done();
    let report = site.json("host list --report");
    assert_eq!(report[0]["last_attempt"], Value::Null);
    site.ask("host list --report")
        .done()
        .saying("never attested");
}

/// A baseline with one boot.
fn baseline(boot: &str) -> String {
    let events = |slot: &str| SlotEvents {
        slot: slot.to_owned(),
        events: vec![ExpectedEvent::Digest {
            digest: EventDigest(hgs_crypto::hash::sha256(
                format!("{slot} {boot}").as_bytes(),
            )),
            what: None,
        }],
    };
    let lane = |pcr, slot: &str| LaneSlots {
        pcr,
        slots: vec![Slot {
            component: "boot".to_owned(),
            name: slot.to_owned(),
            times: Times::Once,
            command_line: false,
        }],
    };
    Baseline {
        lanes: vec![lane(4, "image"), lane(7, "secure-boot")],
        components: vec![Component {
            name: "boot".to_owned(),
            kind: ComponentKind::Shared,
            alternatives: vec![Alternative {
                name: boot.to_owned(),
                source: Source {
                    kind: SourceKind::Log,
                    of: "test".to_owned(),
                },
                state: State::promoted(),
                events: vec![events("image"), events("secure-boot")],
            }],
        }],
        final_values: Vec::new(),
    }
    .to_json()
}

#[test]
fn policies_and_documents_are_set_for_groups() {
    let site = Site::new();
    let policy = |name: &str, group: &str| {
        let policy = site.json(&format!("policy show {name} --group {group}"));
        (
            policy["enabled"].as_bool().unwrap(),
            policy["set_for"].clone(),
        )
    };
    let listed = site.json("policy list");
    assert_eq!(listed.as_array().unwrap().len(), 15);
    assert_eq!(policy("securebootenabled", "default"), (true, Value::Null));
    site.home.write("first.json", baseline("first"));
    site.home.write("second.json", baseline("second"));
    let added = site.json("baseline add First first.json");
    assert_eq!(
        (&added[0]["name"], &added[0]["enabled"]),
        (&json!("first"), &json!(["default"]))
    );
    site.ask("baseline add first second.json")
        .ended(2)
        .saying("there already");
    site.ask("ci-policy add ci first.json")
        .ended(2)
        .saying("first.json")
        .saying("openhgs-ci-policy");
    site.ask("host-group new rack7").done();
    site.ask("baseline add second second.json --group rack7")
        .done();
    let listed = site.json("baseline list");
    assert_eq!(listed[0]["enabled"], json!(["default", "rack7"]));
    assert_eq!(listed[1]["enabled"], json!(["rack7"]));
    assert_eq!(policy("second", "default"), (false, Value::Null));
    assert_eq!(policy("second", "rack7"), (true, json!("rack7")));
    let shown = site.ask("baseline show first").done().out;
    assert_eq!(shown, baseline("first"));
    site.ask("ci-policy show first")
        .ended(1)
        .saying("is no ci-policy");

    site.ask("policy enable iommuenabled")
        .done()
        .saying("enabled");
    assert_eq!(
        policy("Hgs_IommuEnabled", "rack7"),
        (true, json!("default"))
    );
    site.ask("policy disable Hgs_IommuEnabled --group rack7 --yes")
        .done();
    assert_eq!(policy("Hgs_IommuEnabled", "rack7"), (false, json!("rack7")));
    site.ask("policy reset Hgs_IommuEnabled --group rack7 --yes")
        .done();
    assert_eq!(
        policy("Hgs_IommuEnabled", "rack7"),
        (true, json!("default"))
    );
    site.ask("policy disable Hgs_SecureBootSettings --yes")
        .ended(2);
    site.ask("policy enable Hgs_BitLockerEnabled").ended(2);
    site.ask("policy enable nothing").ended(1);
    site.ask("policy list --group nowhere").ended(1);

    // A set that could match nothing is not saved.
    site.ask("policy disable first --yes")
        .ended(2)
        .saying("no baseline is enabled");
    site.ask("policy disable first --group rack7 --yes").done();
    site.ask("baseline remove second --yes")
        .ended(2)
        .saying("rack7");
    site.ask("policy enable Hgs_CiPolicy").ended(2);
    site.home.write(
        "vacuous.json",
        baseline("x").replace("\"pcr\": 7", "\"pcr\": 5"),
    );
    site.ask("baseline set first vacuous.json")
        .ended(2)
        .saying("vacuous.json");
    site.ask("baseline set first second.json").done();
    assert_eq!(
        site.ask("baseline show first").done().out,
        baseline("second")
    );
    site.ask("policy reset first --group rack7 --yes").done();
    site.ask("baseline remove second --yes").done();
    site.ask("host-group remove rack7 --yes").done();
    site.ask("host-group remove default --yes").ended(2);
    let groups = site.json("host-group list");
    assert_eq!(groups.as_array().unwrap().len(), 1);
    assert_eq!(groups[0]["problem"], Value::Null);

    let records = site.json("audit list --limit 100");
    let actions: Vec<_> = records
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["action"].clone())
        .collect();
    for action in [
        "add-policy-document",
        "change-policy-document",
        "remove-policy-document",
        "enable-policy",
        "disable-policy",
        "reset-policy",
        "new-host-group",
        "remove-host-group",
    ] {
        assert!(actions.contains(&json!(action)), "{action}");
    }
    // What it was can be proved, and the log does not hold whole documents.
    let changed = records
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["action"] == "change-policy-document" && one["outcome"] == "done");
    let digest = hex::encode(&hgs_crypto::hash::sha256(baseline("second").as_bytes()));
    assert_eq!(
        changed.unwrap()["after"]["document"]["sha256"],
        json!(digest)
    );
}

const LOG: &[u8] = include_bytes!("../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");
/// The event of the log in which GRUB's image is measured.
const GRUB: usize = 24;

/// A host with a TPM in software, before a guardian that runs: each attempt is kept with its evidence.
#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_of_a_host_is_kept_with_its_evidence() {
    let mut site = Site::new();
    site.ask("server set --attestation-mode tpm --yes").done();
    let mut tpm = SoftwareTpm::new();
    let folders = Folders::inside(&site.home.file("ours"));
    fs::create_dir(site.home.file("ours")).unwrap();
    hgs_files::private_folder(&folders.state).unwrap();
    let configure = |site: &Site, tpm: &mut SoftwareTpm| {
        let services = Services {
            primary: Endpoints::below(&site.served.as_ref().unwrap().url()).unwrap(),
            fallback: None,
            certificate_authorities: None,
            dangerous_accept_unsigned_responses: false,
        };
        let configuration = Configuration::HostGuardianService(services);
        configuration.store(&folders.configuration).unwrap();
        let mut text = fs::read_to_string(&folders.configuration).unwrap();
        if !text.contains("[tpm]") {
            text += &format!(
                "\n[tpm]\ndevice = \"{}\"\nevent_log = \"{}\"\nima_log = \"{}\"\n",
                tpm.device(),
                site.home.file("log").display(),
                site.home.file("ima").display(),
            );
        }
        fs::write(&folders.configuration, text).unwrap();
        GuardedHost::open(folders.clone()).unwrap()
    };
    let boot = |site: &Site, tpm: &mut SoftwareTpm, log: &[u8]| {
        tpm.boot(log);
        site.home.write("log", log);
    };
    boot(&site, &mut tpm, LOG);
    let host = configure(&site, &mut tpm);
    let identity = host.platform_identity(OtherTpm::Refuse).unwrap();
    site.home.write("host1.json", identity.to_json());
    site.ask("host add host1 --identity host1.json --without-ek-certificate --yes")
        .done();
    site.ask("host evidence host1")
        .ended(1)
        .saying("has sent no evidence");

    // Nothing is approved yet, so nothing is healthy; what it sent is there to be approved.
    let attest = async |host: &GuardedHost| host.attest(HealthKind::Encryption, Sides::Both).await;
    let refused = attest(&host).await.unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    let last = |site: &Site| site.json("host list --report")[0].clone();
    assert_eq!(last(&site)["last_attempt"]["healthy"], false);
    assert_eq!(last(&site)["last_attested"], Value::Null);
    let evidence = site.json("host evidence host1");
    assert_eq!(evidence["event_log"], base64::encode(LOG));
    assert_eq!(evidence["pcr_values"].as_array().unwrap().len(), 24);

    let proved = host.evidence().unwrap().prove().unwrap();
    let baseline = Baseline::of_evidence(&proved, "host1", &Parameters::new()).unwrap();
    site.home.write("baseline.json", baseline.to_json());
    site.ask("baseline add reference baseline.json").done();
    attest(&host).await.unwrap();
    let healthy = last(&site);
    assert_eq!(healthy["last_attempt"]["healthy"], true);
    assert_eq!(healthy["last_attempt"]["time"], healthy["last_attested"]);
    assert!(healthy["certificate_expires"].is_string());
    let policies = &healthy["last_attempt"]["policies_digest"];
    let records = site.json("audit list --action attest --outcome done");
    assert_eq!(&records[0]["after"]["policies"], policies);

    boot(&site, &mut tpm, &altered_log(LOG, GRUB));
    let refused = attest(&host).await.unwrap_err();
    assert!(refused.to_string().contains("PCR 4"), "{refused}");
    let altered = last(&site);
    assert_eq!(altered["last_attempt"]["healthy"], false);
    assert_eq!(
        altered["last_attempt"]["failed_policies"],
        json!(["Hgs_SecureBootSettings"])
    );
    assert!(altered["last_attempt"]["difference_digest"].is_string());
    // The certificate that it got before is still there, and is shown to be.
    assert_eq!(altered["last_attested"], healthy["last_attested"]);
    site.ask("host list --report")
        .done()
        .saying("Hgs_SecureBootSettings")
        .saying("refused");
    let evidence = site.json("host evidence host1");
    let log = base64::encode(&altered_log(LOG, GRUB));
    assert_eq!(evidence["event_log"], log);

    site.restart();
    site.ask("host evidence host1 --out evidence.json").done();
    let written: Value = serde_json::from_slice(&site.home.read("evidence.json")).unwrap();
    assert_eq!(written, evidence);
    let host = configure(&site, &mut tpm);
    boot(&site, &mut tpm, LOG);
    attest(&host).await.unwrap();
    site.ask("host revoke host1 --reason stolen --yes").done();
    let refused = attest(&host).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    let revoked = last(&site);
    assert_eq!(revoked["last_attempt"]["healthy"], false);
}

/// The event of the log in which the initrd is measured.
const INITRD: usize = 46;

/// From `guarded-host baseline stage --send` to the boot: refused by default, then accepted, staged and promoted.
#[test]
fn a_host_says_what_it_will_boot_next_and_boots_it() {
    let site = Site::new();
    site.ask("server set --attestation-mode tpm --yes").done();
    let folder = site.home.file("ours");
    fs::create_dir(&folder).unwrap();
    let mut tpm = SoftwareTpm::new();
    let configuration = format!(
        "mode = \"local\"\n[tpm]\ndevice = \"{}\"\nevent_log = \"{}\"\nima_log = \"{}\"\n",
        tpm.device(),
        folder.join("log").display(),
        folder.join("ima").display(),
    );
    fs::write(folder.join("guarded-host.toml"), configuration).unwrap();
    let host = |words: &str| Outcome::of(&mut common::guarded_host(&folder, words));
    let url = site.served.as_ref().unwrap().url();
    host(&format!("configure {url}")).done();
    tpm.boot(LOG);
    fs::write(folder.join("log"), LOG).unwrap();
    host("identity export --out host1.json").done();
    host("baseline export --out baseline.json --host-measurements own.json").done();
    site.ask("host add host1 --identity ours/host1.json --without-ek-certificate --yes")
        .done();
    site.ask("baseline add reference ours/baseline.json").done();
    site.ask("host set host1 --measurements ours/own.json")
        .done();
    host("attest").done();

    fs::write(folder.join("initrd"), b"the next initrd").unwrap();
    let stage = "baseline stage --file /initrd.gz=initrd --name next --send";
    host(&format!("{stage} --out next.json"))
        .ended(2)
        .saying("takes no claims")
        .saying("at fault: the guardian")
        .saying("hgs server set --next-boot-claims accept");
    // It can be added by hand, and the host is what it was.
    let written = fs::read_to_string(folder.join("next.json")).unwrap();
    assert!(written.contains("openhgs-host-measurements"), "{written}");
    let last = || site.json("host list --report")[0]["last_attempt"].clone();
    assert_eq!(last()["healthy"], true);
    assert_eq!(host("status --json").done().json()["is_host_guarded"], true);

    site.ask("server set --next-boot-claims accept").ended(2);
    let settings = site.json("server set --next-boot-claims accept --yes");
    assert_eq!(settings["accept_next_boot_claims"], true);
    let staged = host(&format!("{stage} --json")).done().json();
    assert_eq!(staged["components"], json!(["initrd"]));
    assert!(staged["guardian"].is_string());
    let records = site.json("audit list --action accept-next-boot --outcome done");
    let digest = hex::encode(&hgs_crypto::hash::sha256(b"the next initrd"));
    let added = &records[0]["after"]["note"]["added"][0];
    assert_eq!(added["component"], "initrd");
    assert!(added["events"].to_string().contains(&digest), "{added}");
    assert!(records[0]["actor"].as_str().unwrap().starts_with("host "));
    // Nothing is doubled.
    host(stage).done();
    let records = site.json("audit list --action accept-next-boot --outcome done");
    assert_eq!(records.as_array().unwrap().len(), 1);

    let mut boot = MeasuredBoot::of_log(LOG);
    boot.events[INITRD - 1].digest = hgs_crypto::hash::sha256(b"the next initrd");
    boot.replay(&mut tpm);
    tpm.release();
    fs::write(folder.join("log"), boot.log()).unwrap();
    host("attest --kind encryption").done();
    let records = site.json("audit list --action promote-alternatives");
    let promoted = records[0]["after"]["promoted"].to_string();
    assert!(promoted.contains("\"next\""), "{promoted}");

    // What is booted is nothing to be staged.
    host(stage).ended(2).saying("booted already");
    fs::write(folder.join("initrd"), b"another initrd").unwrap();
    site.ask("host revoke host1 --reason stolen --yes").done();
    host(stage).ended(2).saying("revoked");
}
