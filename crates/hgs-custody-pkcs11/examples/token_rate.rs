//! What the pool of sessions costs: pairs of a decryption and a signature through it, beside the same calls made directly in
//! as many sessions, with SoftHSM. The ratio is that of processor time, which a busy machine disturbs least; padding and
//! hashing, which the direct calls leave out, are in it.
//!
//! ```sh
//! cargo run --release -p hgs-custody-pkcs11 --example token_rate
//! ```

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_custody::PrivateKey as _;
use hgs_custody_pkcs11::{ModuleSettings, Settings, TokenKey, Tokens};
use hgs_testkit::softhsm::{PIN, SoftHsm};
use rustix::time::{ClockId, clock_gettime};

/// How long each figure is measured, after as long for warming up.
const PERIOD: Duration = Duration::from_secs(2);

const URI: &str = "TOKEN_RATE_URI";

fn main() {
    let Ok(uri) = env::var(URI) else {
        return run_with_a_token();
    };
    println!("sessions  direct/s  pool/s  direct CPU/pair  pool CPU/pair  ratio");
    for sessions in [1, 2, 8, 32] {
        let ciphertext = ciphertext(&uri);
        let direct = direct_rate(sessions, &ciphertext);
        let pool = pool_rate(sessions, &uri, &ciphertext);
        println!(
            "{sessions:8}  {:8.0}  {:6.0}  {:12.0} us  {:10.0} us  {:5.2}",
            direct.per_second,
            pool.per_second,
            direct.micros,
            pool.micros,
            direct.micros / pool.micros
        );
    }
}

/// What was measured of pairs of operations.
struct Rate {
    per_second: f64,
    /// Processor time of one, in microseconds.
    micros: f64,
}

/// SoftHSM finds its tokens by the environment, which a process can't change for itself.
fn run_with_a_token() {
    let hsm = SoftHsm::new();
    hsm.generate("both", "--usage-decrypt");
    let (name, value) = hsm.environ();
    let status = Command::new(env::current_exe().expect("a running program has a file"))
        .env(name, value)
        .env(URI, hsm.uri("both"))
        .status();
    assert!(status.expect("the program starts again").success());
}

fn ciphertext(uri: &str) -> Vec<u8> {
    let key = open(1, uri);
    let secret = SecretBytes::new(vec![7; 32]);
    let ciphertext = key.public().encrypt_oaep(OaepHash::Sha256, &secret);
    ciphertext.expect("there is room for 32 octets")
}

fn open(sessions: usize, uri: &str) -> TokenKey {
    let module = ModuleSettings {
        sessions,
        ..ModuleSettings::new(SoftHsm::module())
    };
    let tokens = Tokens::new(Settings {
        modules: vec![module],
        pin_source: None,
    });
    let uri = uri.parse().expect("the fixture's URI");
    tokens.open(&uri).expect("the key that was just made")
}

/// Pairs a second through the pool, with as many callers as sessions.
fn pool_rate(sessions: usize, uri: &str, ciphertext: &[u8]) -> Rate {
    let key = open(sessions, uri);
    rate(sessions, || {
        let key = &key;
        move || {
            key.decrypt(OaepHash::Sha256, ciphertext)
                .expect("it was made for the key");
            key.sign(SignatureScheme::Pkcs1Sha256, b"message")
                .expect("the key signs");
        }
    })
}

/// Pairs a second in sessions that each thread has for itself.
fn direct_rate(sessions: usize, ciphertext: &[u8]) -> Rate {
    let module = Pkcs11::new(SoftHsm::module()).expect("the module loads");
    let locking = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    module.initialize(locking).expect("the module starts");
    let rate = rate(sessions, || {
        let (session, key) = session(&module);
        move || {
            session
                .decrypt(&Mechanism::RsaX509, key, ciphertext)
                .expect("raw RSA");
            session
                .sign(&Mechanism::RsaPkcs, key, &[0; 51])
                .expect("the key signs");
        }
    });
    module.finalize().expect("nobody uses it any more");
    rate
}

fn session(module: &Pkcs11) -> (Session, ObjectHandle) {
    let slots = module.get_slots_with_initialized_token();
    let slot = slots.expect("the module lists its slots")[0];
    let session = module.open_ro_session(slot).expect("a session");
    // All but the first hear that the user is logged in already.
    let _ = session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned())));
    let keys = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]);
    let key = keys.expect("the token finds")[0];
    (session, key)
}

/// How often a second the work of all threads is done.
fn rate<W: FnMut() + Send>(threads: usize, mut work: impl FnMut() -> W) -> Rate {
    let (stop, counting, done) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let mut work = work();
            let (stop, counting, done) = (&stop, &counting, &done);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work();
                    if counting.load(Ordering::Relaxed) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        std::thread::sleep(PERIOD);
        counting.store(true, Ordering::Relaxed);
        let (begun, worked) = (Instant::now(), processor_time());
        std::thread::sleep(PERIOD);
        let (wall, worked) = (begun.elapsed(), processor_time() - worked);
        let done = done.load(Ordering::Relaxed) as f64;
        stop.store(true, Ordering::Relaxed);
        Rate {
            per_second: done / wall.as_secs_f64(),
            micros: worked.as_secs_f64() * 1e6 / done,
        }
    })
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("processor time is not negative")
}
