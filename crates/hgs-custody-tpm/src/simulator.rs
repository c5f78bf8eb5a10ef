//! A TPM in software (swtpm), in a folder and a process of its own: for demonstrations and tests. It protects nothing.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hgs_tcg::event_log::{Bank, EventLog, EventLogError, EventType, Limits};
use tempfile::TempDir;

use crate::control::{Control, ControlError};
use crate::device::Device;
use crate::error::TpmError;
use crate::tpm::Tpm;

/// How long swtpm may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before it is looked for again.
const WAIT: Duration = Duration::from_millis(5);

/// Why there is no TPM in software.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// A program is not installed.
    #[error("the program `{program}` is not installed")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// The package of Debian that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// It does not start.
    #[error("swtpm does not start")]
    DoesNotStart,
    /// The folder can't be used, or the program not be run.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The log is none.
    #[error(transparent)]
    Log(#[from] EventLogError),
    /// The log names a PCR that does not exist, or has no digests of SHA-256.
    #[error("event {event} of the log can't be replayed: {reason}")]
    Event {
        /// The number of the event.
        event: usize,
        /// Why.
        reason: &'static str,
    },
    /// The TPM refused.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// swtpm refused what was asked on its control channel.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl SimulatorError {
    /// The package of Debian that a missing program is in.
    #[must_use]
    pub fn package(&self) -> Option<&'static str> {
        match self {
            Self::NotInstalled { package, .. } => Some(package),
            _ => None,
        }
    }
}

/// Who issues EK certificates to TPMs in software: the CA of swtpm's tools, in a folder of its own.
#[derive(Debug)]
pub struct SimulatorAuthority {
    folder: TempDir,
}

impl SimulatorAuthority {
    /// Makes the CA with its first TPM.
    ///
    /// # Errors
    /// When there is no folder for it.
    pub fn new() -> Result<Self, SimulatorError> {
        let folder = new_folder()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let tool = program("swtpm_localca", SWTPM_TOOLS)?;
        let setup = format!(
            "create_certs_tool={}\ncreate_certs_tool_config={}\ncreate_certs_tool_options={}\nactive_pcr_banks=sha256\n",
            tool.display(),
            path("localca.conf"),
            path("localca.options"),
        );
        let authority = format!(
            "statedir={}\nsigningkey={}\nissuercert={}\ncertserial={}\n",
            folder.path().display(),
            path("signing-key.pem"),
            path("issuer.pem"),
            path("serial"),
        );
        fs::write(path("setup.conf"), setup)?;
        fs::write(path("localca.conf"), authority)?;
        fs::write(
            path("localca.options"),
            "--tpm-manufacturer id:00001014\n--tpm-model swtpm\n--tpm-version id:20191023\n--platform-manufacturer Fictional\n--platform-version 2.1\n--platform-model QEMU\n",
        )?;
        Ok(Self { folder })
    }

    /// The certificates in PEM that EK certificates lead to: of the issuer, and of its root.
    ///
    /// # Errors
    /// Before the first TPM was made.
    pub fn certificates(&self) -> Result<Vec<String>, SimulatorError> {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name));
        Ok(vec![
            read("issuer.pem")?,
            read("swtpm-localca-rootca-cert.pem")?,
        ])
    }
}

/// A fresh TPM that has been started up. The process ends with this value.
#[derive(Debug)]
pub struct Simulator {
    process: Child,
    folder: TempDir,
}

const SWTPM: &str = "swtpm";
const SWTPM_TOOLS: &str = "swtpm-tools";

impl Simulator {
    /// What certified TPMs need and is not installed: programs, with the packages of Debian that have them.
    #[must_use]
    pub fn missing() -> Vec<(&'static str, &'static str)> {
        let needed = [
            ("swtpm", SWTPM),
            ("swtpm_setup", SWTPM_TOOLS),
            ("swtpm_localca", SWTPM_TOOLS),
            // With which the tools of the CA make certificates.
            ("certtool", "gnutls-bin"),
        ];
        let missing = needed.into_iter();
        missing
            .filter(|(name, package)| program(name, package).is_err())
            .collect()
    }

    /// A TPM with seeds of its own and without a certificate.
    ///
    /// # Errors
    /// When swtpm is not installed or does not start.
    pub fn new() -> Result<Self, SimulatorError> {
        let folder = new_folder()?;
        Ok(Self {
            process: start(folder.path(), 0)?,
            folder,
        })
    }

    /// A TPM whose endorsement key `authority` has certified.
    ///
    /// # Errors
    /// When swtpm or its tools are not installed or fail.
    pub fn certified(authority: &SimulatorAuthority) -> Result<Self, SimulatorError> {
        if let Some(&(program, package)) = Self::missing().first() {
            return Err(SimulatorError::NotInstalled { program, package });
        }
        let folder = new_folder()?;
        let setup = program("swtpm_setup", SWTPM_TOOLS)?;
        let path = |folder: &Path, name: &str| folder.join(name).display().to_string();
        run(
            "swtpm_setup",
            Command::new(setup)
                .args(["--tpm2", "--create-ek-cert", "--tpm-state"])
                .arg(folder.path())
                .args(["--config", &path(authority.folder.path(), "setup.conf")])
                .args(["--pcr-banks", "sha256"])
                .args(["--logfile", &path(folder.path(), "setup.log")])
                // The tools of the CA look for its settings here if a file is missing.
                .env("XDG_CONFIG_HOME", folder.path()),
        )?;
        Ok(Self {
            process: start(folder.path(), 0)?,
            folder,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn device(&self) -> Device {
        Device::UnixSocket(self.folder.path().join(SOCKET))
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Opens it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn open(&self) -> Result<Tpm, TpmError> {
        Tpm::open(&self.device(), None)
    }

    /// Turns the machine off and on again: PCRs are as at its start, and what was loaded is gone.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<(), SimulatorError> {
        self.stop();
        self.process = start(self.folder.path(), 0)?;
        Ok(())
    }

    /// Turns the machine off and on again and measures a boot: the digests of SHA-256 of a log in their order, from the
    /// locality at which the log says that the TPM was started. The log may be altered; only its digests count. Returns how
    /// many events were measured.
    ///
    /// # Errors
    /// When the log is none, or has an event that no TPM takes.
    pub fn boot(&mut self, log: &[u8]) -> Result<usize, SimulatorError> {
        let log = EventLog::read(log.to_vec(), &Limits::LOG)?;
        self.stop();
        let locality = log.unverified().startup_locality().unwrap_or(0);
        self.process = start(self.folder.path(), locality)?;
        let mut tpm = self.open()?;
        let mut measured = 0;
        for event in log.unverified().events() {
            if event.event_type() == EventType::NO_ACTION {
                continue;
            }
            let number = event.number();
            let refused = |reason| SimulatorError::Event {
                event: number,
                reason,
            };
            let pcr = u8::try_from(event.pcr()).map_err(|_| refused("there is no such PCR"))?;
            let digest = event.digest(Bank::Sha256);
            let digest = digest.ok_or_else(|| refused("it has no digest of SHA-256"))?;
            let digest = digest.as_bytes().try_into();
            tpm.extend_pcr(
                pcr,
                &digest.map_err(|_| refused("its digest is too short"))?,
            )?;
            measured += 1;
        }
        Ok(measured)
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop();
    }
}

const SOCKET: &str = "socket";

/// Starts swtpm and has TPM2_Startup done at a locality: it is the first value of PCR 0.
fn start(folder: &Path, locality: u8) -> Result<Child, SimulatorError> {
    let swtpm = program("swtpm", SWTPM)?;
    let socket = folder.join(SOCKET);
    let _ = fs::remove_file(&socket);
    let startup = match locality {
        0 => "startup-clear",
        _ => "startup-none",
    };
    let mut process = Command::new(swtpm)
        .args(["socket", "--tpm2"])
        .args(["--tpmstate", &format!("dir={}", folder.display())])
        .args([
            "--server",
            &format!("type=unixio,path={}", socket.display()),
        ])
        // Where the tools of the TPM 2.0 software stack look for it.
        .args([
            "--ctrl",
            &format!("type=unixio,path={}.ctrl", socket.display()),
        ])
        .args(["--flags", &format!("not-need-init,{startup}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        if process.try_wait()?.is_some() {
            return Err(SimulatorError::DoesNotStart);
        }
        if begun.elapsed() > PATIENCE {
            let _ = process.kill();
            let _ = process.wait();
            return Err(SimulatorError::DoesNotStart);
        }
        std::thread::sleep(WAIT);
    }
    if locality != 0
        && let Err(error) = start_up(&socket, locality)
    {
        let _ = process.kill();
        let _ = process.wait();
        return Err(error);
    }
    Ok(process)
}

/// TPM2_Startup(TPM_SU_CLEAR) at a locality, which swtpm takes on its control channel.
fn start_up(socket: &Path, locality: u8) -> Result<(), SimulatorError> {
    const STARTUP: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
    let mut control = Control::connect(Path::new(&format!("{}.ctrl", socket.display())))?;
    control.set_locality(locality)?;
    let mut data = UnixStream::connect(socket)?;
    data.write_all(&STARTUP)?;
    let mut response = [0; 10];
    data.read_exact(&mut response)?;
    control.set_locality(0)?;
    match response[6..] == [0; 4] {
        true => Ok(()),
        false => Err(SimulatorError::Failed {
            program: "swtpm",
            message: format!("it refuses TPM2_Startup at locality {locality}"),
        }),
    }
}

/// A log with another digest of SHA-256 for one event, as if something else had been measured. `None` if there is no such
/// event.
///
/// # Errors
/// When the log is none.
pub fn alter_event(log: &[u8], number: usize) -> Result<Option<Vec<u8>>, EventLogError> {
    let read = EventLog::read(log.to_vec(), &Limits::LOG)?;
    let unverified = read.unverified();
    let Some(event) = unverified.events().nth(number) else {
        return Ok(None);
    };
    let Some(digest) = event.digest(Bank::Sha256) else {
        return Ok(None);
    };
    // The digests of an event stand right before its data.
    let end = event.data().as_ptr() as usize - unverified.octets().as_ptr() as usize;
    let place = log[..end]
        .windows(digest.as_bytes().len())
        .rposition(|octets| octets == digest.as_bytes());
    Ok(place.map(|place| {
        let mut altered = log.to_vec();
        altered[place] ^= 1;
        altered
    }))
}

fn run(program: &'static str, command: &mut Command) -> Result<(), SimulatorError> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(SimulatorError::Failed {
        program,
        message: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Octets of a folder's path that leave room for a socket in it (unix(7)).
const SOCKET_FOLDER_LENGTH: usize = 80;

fn new_folder() -> io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    match folder.path().as_os_str().len() <= SOCKET_FOLDER_LENGTH {
        true => Ok(folder),
        false => tempfile::tempdir_in("/tmp"),
    }
}

fn program(name: &'static str, package: &'static str) -> Result<PathBuf, SimulatorError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(OsStr::new(name)))
        .find(|program| program.is_file())
        .ok_or(SimulatorError::NotInstalled {
            program: name,
            package,
        })
}
