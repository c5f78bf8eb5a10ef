//! Rolls with keys in a token (SoftHSM), compared with the token itself through the same pool of sessions; and the time
//! that a token needs to work again after an outage.

use std::env;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_custody::PrivateKey as _;
use hgs_custody_pkcs11::{ModuleSettings, Settings, TokenKey, Tokens};
use hgs_kps::Caches;
use hgs_pki::{KeyError, KeyWork, Thumbprint};
use hgs_testkit::softhsm::{SoftHsm, TOKEN};

use crate::measure::{Effort, median};
use crate::roll::Service;

/// The argument of the process that uses the token.
pub(crate) const CHILD: &str = "--tokens";

const FOLDER: &str = "HGS_BENCH_FOLDER";
const QUICK: &str = "HGS_BENCH_QUICK";
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// SoftHSM finds its tokens by the environment, which a process can't change for itself.
pub(crate) fn in_a_process_of_its_own(effort: Effort) {
    if !fs::exists(MODULE).unwrap_or(false) {
        println!(
            "\nleft out: keys in a token ({MODULE} is not there: install softhsm2 and opensc)"
        );
        return;
    }
    let hsm = SoftHsm::new();
    hsm.import_guardian(Service::new().guardian);
    let (name, value) = hsm.environ();
    let mut command = Command::new(env::current_exe().expect("a running program has a file"));
    command
        .arg(CHILD)
        .env(name, value)
        .env(FOLDER, hsm.folder());
    if effort == Effort::Quick {
        command.env(QUICK, "");
    }
    let status = command.status().expect("the program starts again");
    assert!(status.success(), "the benchmark of tokens failed");
}

/// Prints both, for pools of several sizes.
pub(crate) fn by_number_of_sessions() {
    let effort = match env::var_os(QUICK) {
        Some(_) => Effort::Quick,
        None => Effort::Full,
    };
    let service = Service::new();
    println!("\n| sessions | decryptions and signatures/s | rolls/s | ratio |");
    println!("|---|---|---|---|");
    for sessions in [1, 2, 8, 32] {
        let keys = Pair::open(sessions);
        let ciphertext = keys.ciphertext();
        let (request, caches) = (service.request(), Caches::new(64));
        let raw = || keys.work(&ciphertext);
        let roll = || service.roll(&keys, &request, &caches);
        roll();
        // Twice as many as sessions, so that none has to wait for its next job.
        let callers = 2 * sessions;
        let rounds: Vec<(f64, f64)> = (0..effort.loads())
            .map(|_| (rate(callers, effort, &raw), rate(callers, effort, &roll)))
            .collect();
        println!(
            "| {sessions} | {:.0} | {:.0} | {:.3} |",
            median(rounds.iter().map(|(raw, _)| *raw)),
            median(rounds.iter().map(|(_, rolls)| *rolls)),
            median(rounds.iter().map(|(raw, rolls)| rolls / raw)),
        );
    }
    recovery();
}

/// The guardian's keys in the token.
struct Pair {
    signing: TokenKey,
    encryption: TokenKey,
}

impl Pair {
    fn open(sessions: usize) -> Self {
        let module = ModuleSettings {
            sessions,
            ..ModuleSettings::new(MODULE)
        };
        let folder = env::var(FOLDER).expect("the parent names the folder");
        let tokens = Tokens::new(Settings {
            modules: vec![module],
            pin_source: Some(format!("file:{folder}/pin").parse().expect("a source")),
        });
        let key = |label: &str| {
            let uri = format!("pkcs11:token={TOKEN};object={label}");
            let key = tokens.open(&uri.parse().expect("a URI"));
            key.expect("a key that was put there")
        };
        Self {
            signing: key("signing"),
            encryption: key("encryption"),
        }
    }

    fn ciphertext(&self) -> Vec<u8> {
        let secret = SecretBytes::new(vec![7; 32]);
        let public = self.encryption.public();
        let ciphertext = public.encrypt_oaep(OaepHash::Sha256, &secret);
        ciphertext.expect("the secret is short")
    }

    /// What the token has to do for one roll.
    fn work(&self, ciphertext: &[u8]) {
        let decrypted = self.encryption.decrypt(OaepHash::Sha256, ciphertext);
        decrypted.expect("it was made for the key");
        let signed = self.signing.sign(SignatureScheme::Pkcs1Sha256, b"message");
        signed.expect("the key signs");
    }
}

impl KeyWork for &Pair {
    fn decrypt(
        &mut self,
        _: &Thumbprint,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, KeyError> {
        self.encryption.decrypt(hash, ciphertext)
    }

    fn sign(
        &mut self,
        _: &Thumbprint,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        self.signing.sign(scheme, message)
    }
}

/// How often a second `work` is done by so many callers.
fn rate(callers: usize, effort: Effort, work: &(impl Fn() + Sync)) -> f64 {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    work();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(effort.load());
        stop.store(true, Ordering::Relaxed);
    });
    done.into_inner() as f64 / begun.elapsed().as_secs_f64()
}

/// Takes the token away and brings it back.
fn recovery() {
    let folder = env::var(FOLDER).expect("the parent names the folder");
    let (shown, hidden) = (format!("{folder}/tokens"), format!("{folder}/hidden"));
    let keys = Pair::open(2);
    let works = || {
        let signed = keys.signing.sign(SignatureScheme::Pkcs1Sha256, b"message");
        signed.is_ok()
    };
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            fs::rename(&shown, &hidden).expect("the folder is ours");
            while works() {}
            fs::rename(&hidden, &shown).expect("the folder is ours");
            let back = Instant::now();
            while !works() {
                thread::sleep(Duration::from_millis(1));
            }
            back.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "\nA token that was away works again {:.0} ms after it is back (median of five; at most {:.0} ms).",
        times[2], times[4]
    );
}
