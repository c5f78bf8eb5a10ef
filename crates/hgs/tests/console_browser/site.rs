//! A guardian with a console, and whatever its screens can show.

use std::cell::OnceCell;
use std::fs;
use std::path::PathBuf;

use hgs_custody_tpm::simulator::SimulatorAuthority;
use hgs_testkit::softhsm::{SoftHsm, TOKEN};
use hgs_testkit::swtpm::{SoftwareTpm, altered_log};
use serde_json::{Value, json};

use super::browser::{Browser, ClientCertificate, Script};
use super::common::served::{Served, configure};
use super::common::{Home, Outcome};

const LOG: &[u8] = include_bytes!("../../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");
/// Events of the log: the image of GRUB, and the initrd.
const GRUB: usize = 24;
const INITRD: usize = 46;

/// What somebody writes who hopes that a page takes text for elements.
pub(crate) const HOSTILE: &str = "<script>document.title='taken'</script><img/src=x>";

/// That of the file with a user's certificate and key.
const PASSWORD: &str = "x";

/// A guardian that serves.
pub(crate) struct Site {
    home: Home,
    served: Served,
    /// They are asked while their hosts attest only.
    tpms: Vec<SoftwareTpm>,
    /// The token that the guardian uses beside its software keys.
    token: SoftHsm,
    origin: OnceCell<String>,
}

impl Site {
    /// A guardian that was made just now.
    pub(crate) fn empty() -> Self {
        Self::made(|_| String::new())
    }

    /// A guardian whose console signs in who shows the certificate in `ann.pfx`, which is made as `docs/console.md` says.
    pub(crate) fn with_client() -> Self {
        Self::made(|home| {
            home.openssl(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=ann \
                 -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth \
                 -keyout ann.key -out ann.pem",
            );
            let password = format!("-passout pass:{PASSWORD}");
            home.openssl(&format!(
                "pkcs12 -export -inkey ann.key -in ann.pem -name ann -out ann.pfx {password}"
            ));
            let entry =
                "[[client]]\nname = \"ann\"\ncertificate = \"ann.pem\"\nroles = [\"reviewer\"]\n";
            home.write("clients.toml", entry);
            format!(
                "[listen.console.client_certificates]\nenabled = true\naddress = \"127.0.0.1:0\"\nclients = \"{}\"\n",
                home.file("clients.toml").display()
            )
        })
    }

    fn made(more: impl FnOnce(&Home) -> String) -> Self {
        let home = Home::new();
        configure(&home);
        let mut configuration = String::from_utf8(home.read("hgs.toml")).unwrap();
        configuration += "[listen.console]\nenabled = true\naddress = \"127.0.0.1:0\"\n";
        configuration += &more(&home);
        configuration += &format!(
            "[[pkcs11.module]]\npath = \"{}\"\n",
            SoftHsm::module().display()
        );
        home.write("hgs.toml", configuration);
        home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
            .done();
        let token = SoftHsm::new();
        let (variable, value) = token.environ();
        let value = value.to_str().unwrap();
        Self {
            served: Served::launch(&home, "hgs.toml", &[(variable, value)]),
            home,
            tpms: Vec::new(),
            token,
            origin: OnceCell::new(),
        }
    }

    /// A guardian in use: a host is healthy and had the keys of a machine released, which was rolled back then; two are
    /// refused for different reasons, one never attested, one is revoked. There are a former pair, a tenant with a key in a
    /// token, a group and documents.
    pub(crate) fn in_use() -> Self {
        let mut site = Self::empty();
        site.ask("server set --attestation-mode tpm");
        let authority = SimulatorAuthority::new().unwrap();
        let hosts = ["host-1", "host-2", "host-3"];
        site.tpms = hosts.map(|_| SoftwareTpm::certified(&authority)).into();
        // The authority is made with its first TPM.
        let roots = authority.certificates().unwrap().concat();
        site.home.write("roots.pem", roots);
        site.ask("ek-root add roots.pem");
        for (tpm, host) in hosts.into_iter().enumerate() {
            site.add_tpm_host(tpm, host);
        }
        site.ask("baseline add reference host-1/baseline.json");
        site.ask("host-group new rack-7");
        site.ask("baseline add of-rack-7 host-1/baseline.json --group rack-7");
        site.ask("policy disable Hgs_IommuEnabled --group rack-7");
        site.ask("host set host-3 --group rack-7");
        site.home
            .write("ci.json", ci_policy(&["of-2026", "of-2027"]));
        site.ask("host-group new rack-9");
        site.ask("ci-policy add of-rack-9 ci.json --group rack-9");
        site.attest("host-1");
        site.boot_and_be_refused(1, "host-2", GRUB);
        site.boot_and_be_refused(2, "host-3", INITRD);
        for host in ["host-4", "host-5"] {
            site.make_host_key(host);
            site.ask(&format!("host add {host} --host-key {host}.pem"));
        }
        site.ask(&format!("host revoke host-5 --reason {HOSTILE}"));
        site.release();
        // A former pair of the fabric, of which one half is disabled.
        let rotated = site.json("certificate rotate --bits 2048 --label 2027");
        let former = rotated["previous_encryption"].as_str().unwrap();
        site.ask(&format!("certificate disable {former}"));
        let of_contoso = "--tenant Contoso --bits 2048 --label 2027";
        site.ask(&format!("certificate new --type signing {of_contoso}"));
        let key = site.key_in_token("contoso");
        site.ask(&format!(
            "certificate new --type encryption {of_contoso} --key {key} --new-key"
        ));
        site
    }

    fn url(&self) -> String {
        self.served.url()
    }

    #[track_caller]
    pub(crate) fn ask(&self, words: &str) -> Outcome {
        self.home
            .hgs(&format!("{words} --config hgs.toml --yes"))
            .done()
    }

    #[track_caller]
    pub(crate) fn json(&self, words: &str) -> Value {
        self.ask(&format!("{words} --json")).json()
    }

    /// The public half of a new host key, which is in `NAME.pem`.
    pub(crate) fn make_host_key(&self, name: &str) -> String {
        self.home.make_host_key(name);
        String::from_utf8(self.home.read(&format!("{name}.pem"))).unwrap()
    }

    #[track_caller]
    fn host(&self, name: &str, words: &str) -> Outcome {
        let folder = self.home.file(name);
        Outcome::of(&mut super::common::guarded_host(&folder, words))
    }

    /// A host with a TPM, registered with what it measures.
    fn add_tpm_host(&mut self, tpm: usize, name: &str) {
        let folder = self.home.file(name);
        fs::create_dir(&folder).unwrap();
        let tpm = &mut self.tpms[tpm];
        tpm.boot(LOG);
        fs::write(folder.join("log"), LOG).unwrap();
        let configuration = format!(
            "mode = \"local\"\n[tpm]\ndevice = \"{}\"\nevent_log = \"{}\"\nima_log = \"{}\"\n",
            tpm.device(),
            folder.join("log").display(),
            folder.join("ima").display(),
        );
        fs::write(folder.join("guarded-host.toml"), configuration).unwrap();
        self.host(name, &format!("configure {}", self.url())).done();
        self.host(name, "identity export --out identity.json")
            .done();
        self.host(
            name,
            "baseline export --out baseline.json --host-measurements own.json",
        )
        .done();
        self.ask(&format!("host add {name} --identity {name}/identity.json"));
        self.ask(&format!("host set {name} --measurements {name}/own.json"));
    }

    /// Has a host boot with one event of the log altered.
    fn boot_and_be_refused(&mut self, tpm: usize, name: &str, event: usize) {
        let log = altered_log(LOG, event);
        self.tpms[tpm].boot(&log);
        fs::write(self.home.file(name).join("log"), log).unwrap();
        self.host(name, "attest").ended(2);
    }

    /// Has the keys of a machine released to the healthy host, and its protector rolled.
    fn release(&self) {
        let metadata = self
            .served
            .get("/KeyProtection/service/metadata/2014-07/metadata.xml");
        self.home.write("fabric.xml", metadata);
        self.home.unlocked("guardian new ann --bits 2048").done();
        self.home
            .unlocked("guardian import fabric fabric.xml --dangerously-trust-unverified")
            .done();
        self.home
            .unlocked("protector new --owner ann --guardian fabric --out host-1/vm.xml")
            .done();
        self.home.write("host-1/disk", "the state of a TPM");
        self.host("host-1", "protector seal vm.xml disk --out vm.state")
            .done();
        let files = ["vm.xml", "vm.state"].map(|name| self.home.file("host-1").join(name));
        let backup = files.each_ref().map(|file| fs::read(file).unwrap());
        // The machine starts twice, and once more from its backup.
        let start = || {
            self.host("host-1", "protector unwrap vm.xml vm.state --reseal")
                .done();
        };
        start();
        start();
        for (file, octets) in files.iter().zip(backup) {
            fs::write(file, octets).unwrap();
        }
        start();
    }

    /// The place of a key in the token.
    pub(crate) fn key_in_token(&self, name: &str) -> String {
        self.token.uri(name)
    }

    /// A certificate for encryption that somebody has made with other tools, whose key is in the token by this name.
    pub(crate) fn certificate_with_key_in_token(&self, name: &str) -> String {
        self.home.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 900 -subj /CN={name} \
             -addext keyUsage=critical,dataEncipherment -addext basicConstraints=CA:FALSE"
        ));
        self.home.openssl(&format!(
            "pkcs8 -topk8 -nocrypt -in {name}.key -outform DER -out {name}.der"
        ));
        let key = self.home.file(&format!("{name}.der"));
        self.token.import(TOKEN, &key, name);
        String::from_utf8(self.home.read(&format!("{name}.pem"))).unwrap()
    }

    /// The certificate of a signer of another cluster.
    pub(crate) fn make_signer(&self, cluster: &str) -> String {
        self.home.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {cluster}.key -out {cluster}.pem -days 900 -subj /CN={cluster} \
             -addext keyUsage=critical,digitalSignature,keyCertSign"
        ));
        String::from_utf8(self.home.read(&format!("{cluster}.pem"))).unwrap()
    }

    /// Has a host attest, and be healthy.
    #[track_caller]
    pub(crate) fn attest(&self, host: &str) {
        self.host(host, "attest").done();
    }

    /// The certificate of the console, as the browser is to trust it.
    fn certificate(&self) -> PathBuf {
        self.home.file("guardian/console.pem")
    }

    pub(crate) fn browser(&self, script: Script) -> Browser {
        Browser::start(&self.certificate(), script, &["browser"])
    }

    /// A browser that shows the certificate in `ann.pfx` to the listener which asks for one, and what the addresses there
    /// begin with.
    pub(crate) fn browser_with_certificate(&self) -> (Browser, String) {
        let settings = self.json("server show");
        let listeners = settings["listeners"].as_array().unwrap();
        let asking = listeners
            .iter()
            .find(|one| one["name"] == "console-client-certificates");
        let origin = format!("https://{}", asking.unwrap()["address"].as_str().unwrap());
        let shown = ClientCertificate {
            file: &self.home.file("ann.pfx"),
            password: PASSWORD,
            origin: &origin,
        };
        let (trusted, logs) = (self.certificate(), ["browser"]);
        let browser = Browser::start_with(&trusted, Script::On, &logs, Some(&shown));
        (browser, origin)
    }

    /// A browser of which it can be asked which streams its pages hold open.
    pub(crate) fn browser_that_logs_its_network(&self) -> Browser {
        let logs = ["browser", "performance"];
        Browser::start(&self.certificate(), Script::On, &logs)
    }

    /// A link that signs in, once.
    pub(crate) fn link(&self) -> String {
        self.json("console")["url"].as_str().unwrap().to_owned()
    }

    /// What the addresses of all pages begin with.
    pub(crate) fn origin(&self) -> &str {
        self.origin.get_or_init(|| {
            let link = self.link();
            link[..link.find("/sign-in/").unwrap()].to_owned()
        })
    }

    /// Signs in by a link, whatever session there was.
    pub(crate) fn sign_in(&self, browser: &Browser) {
        browser.forget_cookies();
        browser.open(&self.link());
        assert_eq!(browser.title(), "Sign in - OpenHGS");
        browser.click("main form button");
        browser.until_shown("Overview");
    }
}

/// A code-integrity policy with these sets of files.
pub(crate) fn ci_policy(sets: &[&str]) -> String {
    let sets = sets.iter().map(|set| {
        json!({
            "name": set, "source": {"kind": "administrator", "of": "us"}, "state": {"promoted": {}},
            "files": [{"path": "/usr/bin/", "digests": ["ab".repeat(32)]}],
        })
    });
    let sets: Vec<_> = sets.collect();
    json!({"kind": "openhgs-ci-policy", "version": 1, "sets": sets}).to_string()
}
