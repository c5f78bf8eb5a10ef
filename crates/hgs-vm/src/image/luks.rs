//! Encryption of a file system in a file, and its keys: the recovery key, and one that is sealed to a vTPM.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;

use super::program::{STANDARD_INPUT, failed, finish, in_memory, run, run_with_secret};
use super::{ImageError, RecoveryKey, Tools};

/// Octets by which a file must be longer than the file system in it, for the header of LUKS2 and its two-fold copy while
/// the file is encrypted.
pub const HEADER_ROOM: u64 = 16 << 20;

/// The PCRs that the key is sealed to. PCR 7 has the Secure Boot keys and the one that verified what was started.
const PCRS: &str = "7";

/// The passphrase has 256 random bits: deriving a key from it slowly protects nothing.
const FAST_DERIVATION: [&str; 4] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];

impl Tools {
    /// Encrypts a file in place under a new volume key, which the returned recovery key opens. The file has a file system
    /// and [`HEADER_ROOM`] octets behind it. `progress` hears of octets done and of all.
    ///
    /// # Errors
    /// When `cryptsetup` fails. What is in the file then is of no use.
    pub fn encrypt(
        &self,
        file: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<RecoveryKey, ImageError> {
        let key = RecoveryKey::random(&mut System::new())?;
        let room = HEADER_ROOM.to_string();
        let mut command = self.cryptsetup.command();
        command
            // Locks are for disks that several programs see, and their folder is root's.
            .args(["reencrypt", "--encrypt", "--batch-mode", "--disable-locks"])
            .args([
                "--type",
                "luks2",
                "--cipher",
                "aes-xts-plain64",
                "--key-size",
                "512",
            ])
            .args(FAST_DERIVATION)
            .args(["--reduce-device-size", &room])
            .args(["--progress-json", "--progress-frequency", "1"])
            .args(["--key-file", STANDARD_INPUT])
            .arg(file)
            .stdin(in_memory(key.passphrase()).map_err(ImageError::at(file))?);
        self.run_with_progress(command, progress)?;
        self.name_recovery_key(file)?;
        Ok(key)
    }

    /// Encrypts a file that is encrypted under a new volume key, which the returned recovery key opens, and nothing else does: no
    /// other key slot stays, and none of a TPM. `progress` hears of octets done and of all.
    ///
    /// # Errors
    /// When `recovery` does not open the file, or `cryptsetup` fails. What is in the file then is of no use.
    pub fn encrypt_anew(
        &self,
        file: &Path,
        recovery: &RecoveryKey,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<RecoveryKey, ImageError> {
        let slot = self.check(file, recovery)?;
        // Its token would stay without a slot.
        self.wipe_tpm_slots(file)?;
        let key = RecoveryKey::random(&mut System::new())?;
        let (old, new) = (recovery.passphrase().expose(), key.passphrase().expose());
        let both = SecretBytes::new([old, new].concat());
        let old_length = old.len().to_string();
        let mut command = self.cryptsetup.command();
        command
            .args(["luksChangeKey", "--batch-mode", "--disable-locks"])
            .args(FAST_DERIVATION)
            .args(["--key-slot", &slot])
            .args(["--key-file", STANDARD_INPUT, "--keyfile-size", &old_length])
            .args(["--new-keyfile-offset", &old_length])
            .arg(file)
            .arg(STANDARD_INPUT)
            .stdin(in_memory(&both).map_err(ImageError::at(file))?);
        finish(&self.cryptsetup, &mut command)?;
        let slot = self.check(file, &key)?;
        let mut command = self.cryptsetup.command();
        command
            .args(["reencrypt", "--batch-mode", "--disable-locks"])
            // The file is a copy that no other program has, and after a crash it is removed.
            .args(["--force-offline-reencrypt", "--resilience", "none"])
            .args(FAST_DERIVATION)
            .args(["--key-slot", &slot])
            .args(["--progress-json", "--progress-frequency", "1"])
            .args(["--key-file", STANDARD_INPUT])
            .arg(file)
            .stdin(in_memory(key.passphrase()).map_err(ImageError::at(file))?);
        self.run_with_progress(command, progress)?;
        Ok(key)
    }

    /// Runs `cryptsetup` to its end, and tells of octets done and of all.
    fn run_with_progress(
        &self,
        mut command: Command,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ImageError> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(ImageError::at(&self.cryptsetup.path))?;
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((done, all)) = done_and_all(&line) {
                    progress(done, all);
                }
            }
        }
        let output = child
            .wait_with_output()
            .map_err(ImageError::at(&self.cryptsetup.path))?;
        if !output.status.success() {
            return Err(failed(&self.cryptsetup, &output));
        }
        Ok(())
    }

    /// Says in the header, as `systemd-cryptenroll --recovery-key` does, that the first key slot is that of a recovery key.
    fn name_recovery_key(&self, file: &Path) -> Result<(), ImageError> {
        const TOKEN: &str = r#"{"type":"systemd-recovery","keyslots":["0"]}"#;
        let mut command = self.cryptsetup.command();
        command
            .args([
                "token",
                "import",
                "--disable-locks",
                "--json-file",
                STANDARD_INPUT,
            ])
            .arg(file)
            .stdin(in_memory(&TOKEN.as_bytes().into()).map_err(ImageError::at(file))?);
        finish(&self.cryptsetup, &mut command).map(drop)
    }

    /// Draws a key, seals it to the TPM and its present PCR 7, and has it open the file. Keys that were sealed to a TPM
    /// before don't open it any more. `tpm` is the socket of swtpm, whose control channel is at the same path with `.ctrl`.
    ///
    /// # Errors
    /// When the recovery key does not open the file, or the TPM refuses.
    pub fn enrol(&self, file: &Path, recovery: &RecoveryKey, tpm: &Path) -> Result<(), ImageError> {
        // In a step of its own: where a key is sealed to the same values, systemd-cryptenroll leaves that one, whichever TPM it
        // is sealed to.
        self.wipe_tpm_slots(file)?;
        let arguments = [
            format!("--unlock-key-file={STANDARD_INPUT}"),
            format!("--tpm2-device=swtpm:path={}", tpm.display()),
            format!("--tpm2-pcrs={PCRS}"),
            file.display().to_string(),
        ];
        run_with_secret(&self.cryptenroll, arguments, recovery.passphrase()).map(drop)
    }

    fn wipe_tpm_slots(&self, file: &Path) -> Result<(), ImageError> {
        let wipe = ["--wipe-slot=tpm2".as_ref(), file.as_os_str()];
        run(&self.cryptenroll, wipe).map(drop)
    }

    /// Makes sure that the key opens the file, and returns the number of its key slot.
    ///
    /// # Errors
    /// When it does not, when `cryptsetup` is not there, or when the file is not encrypted.
    pub fn check(&self, file: &Path, recovery: &RecoveryKey) -> Result<String, ImageError> {
        let arguments = [
            "open",
            "--test-passphrase",
            "--verbose",
            "--disable-locks",
            "--key-file",
            STANDARD_INPUT,
        ];
        let arguments = arguments
            .map(AsRef::as_ref)
            .into_iter()
            .chain([file.as_os_str()]);
        let output = run_with_secret(&self.cryptsetup, arguments, recovery.passphrase())?;
        unlocked_slot(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| ImageError::Failed {
            program: "cryptsetup".to_owned(),
            message: "it does not say which key slot it opened".to_owned(),
        })
    }
}

/// `Key slot 0 unlocked.`
fn unlocked_slot(said: &str) -> Option<String> {
    let slot = |line: &str| {
        let number = line.strip_prefix("Key slot ")?.strip_suffix(" unlocked.")?;
        number.parse::<u8>().ok().map(|slot| slot.to_string())
    };
    said.lines().find_map(slot)
}

/// The identifier in the header of LUKS2, by which the guest finds the disk. `None` if there is no such header.
#[must_use]
pub fn identifier(header: &[u8]) -> Option<String> {
    const MAGIC: &[u8] = b"LUKS\xba\xbe\x00\x02";
    const PLACE: std::ops::Range<usize> = 168..208;
    header.strip_prefix(MAGIC)?;
    let text = header.get(PLACE)?;
    let text = text.split(|octet| *octet == 0).next()?;
    let text = str::from_utf8(text).ok()?;
    let plain = |c: char| c.is_ascii_hexdigit() || c == '-';
    (text.len() == 36 && text.chars().all(plain)).then(|| text.to_owned())
}

/// `{"device":"disk.img","device_bytes":"1024","device_size":"4096",...}`
fn done_and_all(line: &str) -> Option<(u64, u64)> {
    let number = |key: &str| {
        let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
        rest.split('"').next()?.parse().ok()
    };
    Some((number("device_bytes")?, number("device_size")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_that_was_opened_is_read() {
        let said = "No usable token is available.\nKey slot 12 unlocked.\nCommand successful.\n";
        assert_eq!(unlocked_slot(said).as_deref(), Some("12"));
        assert_eq!(unlocked_slot("Key slot --x unlocked.\n"), None);
    }

    #[test]
    fn progress_is_read() {
        let line = r#"{"device":"f","device_bytes":"1048576","device_size":"4194304","speed":"1","eta_ms":"2","time_ms":"3"}"#;
        assert_eq!(done_and_all(line), Some((1_048_576, 4_194_304)));
        assert_eq!(done_and_all("Finished, time 00:00"), None);
    }
}
