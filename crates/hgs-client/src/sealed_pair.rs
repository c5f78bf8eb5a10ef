//! A protector and the file that it seals, replaced together so that no crash loses both.
//!
//! How it is done, and why no journal is needed, says `docs/sealed-file.md`.

use std::path::{Path, PathBuf};

use hgs_files::{FileError, Lock, Readers, Staged};
use hgs_pki::CertificateCache;
use hgs_protector::{Protector, ProtectorDigest, VerifiedProtector};

use crate::sealed_file::{self, SealedFile, SealedFileError};

/// Octets of the longest protector (protocol profile, section 2).
pub const MAX_PROTECTOR: usize = hgs_protector::MAX_PROTECTOR_OCTETS;

/// A protector file and a sealed file, locked for others until this is dropped.
#[derive(Debug)]
pub struct SealedPair {
    protector_path: PathBuf,
    file_path: PathBuf,
    protector: Vec<u8>,
    file: Vec<u8>,
    recovered: bool,
    _lock: Lock,
}

/// Why a pair can't be opened or replaced.
#[derive(Debug, thiserror::Error)]
pub enum SealedPairError {
    /// One of the files can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not sealed.
    #[error("{}: {problem}", path.display())]
    SealedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: SealedFileError,
    },
}

/// A step of a replacement that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ProtectorStaged,
    FileStaged,
    Synchronised,
    FileReplaced,
    ProtectorReplaced,
}

impl SealedPair {
    /// Opens the pair, after finishing or clearing up what a crash interrupted.
    ///
    /// # Errors
    /// When another process has it, a file can't be read, or the file is not a sealed one.
    pub fn open(protector: &Path, file: &Path) -> Result<Self, SealedPairError> {
        // The protector is replaced last, so its lock holds until everything is done.
        let lock = Lock::take(protector)?;
        let octets = hgs_files::read(file, sealed_file::MAX_LENGTH)?;
        let sealed = SealedFile::read(&octets).map_err(|problem| SealedPairError::SealedFile {
            path: file.to_owned(),
            problem,
        })?;
        let recovered = recover(protector, file, &sealed)?;
        let protector_octets = hgs_files::read(protector, MAX_PROTECTOR)?;
        Ok(Self {
            protector_path: protector.to_owned(),
            file_path: file.to_owned(),
            protector: protector_octets,
            file: octets,
            recovered,
            // After a recovery, the name is that of another file than the one that was locked.
            _lock: if recovered {
                Lock::take(protector)?
            } else {
                lock
            },
        })
    }

    /// The octets of the protector.
    #[must_use]
    pub fn protector(&self) -> &[u8] {
        &self.protector
    }

    /// The octets of the sealed file.
    #[must_use]
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// Whether a replacement that a crash had interrupted was finished.
    #[must_use]
    pub fn was_recovered(&self) -> bool {
        self.recovered
    }

    /// Replaces both: the protector by `egress`, the file by `sealed`, which was sealed under it.
    ///
    /// # Errors
    /// When a file can't be written. Then the pair on disk is the old one or, if only step 5 failed,
    /// the next [`Self::open`] makes it the new one.
    pub fn replace(self, egress: &VerifiedProtector, sealed: &[u8]) -> Result<(), SealedPairError> {
        let nothing = |_| Ok(());
        Ok(self.replace_step_by_step(egress.octets(), sealed, nothing)?)
    }

    fn replace_step_by_step(
        self,
        egress: &[u8],
        sealed: &[u8],
        mut after: impl FnMut(Step) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let protector = Staged::write(&self.protector_path, egress, Readers::AsBefore)?;
        after(Step::ProtectorStaged)?;
        let file = Staged::write(&self.file_path, sealed, Readers::AsBefore)?;
        after(Step::FileStaged)?;
        protector.synchronise_folder()?;
        after(Step::Synchronised)?;
        file.replace()?;
        after(Step::FileReplaced)?;
        protector.replace()?;
        after(Step::ProtectorReplaced)
    }
}

/// Finishes or clears up an interrupted replacement, and says whether it finished one.
fn recover(protector: &Path, file: &Path, sealed: &SealedFile<'_>) -> Result<bool, FileError> {
    if let Some(leftover) = Staged::left_for(file)? {
        leftover.discard()?;
    }
    let Some(staged) = Staged::left_for(protector)? else {
        return Ok(false);
    };
    if digest_of(staged.staged())? == Some(sealed.unverified_protector()) {
        staged.replace()?;
        Ok(true)
    } else {
        staged.discard()?;
        Ok(false)
    }
}

/// The digest of a protector file, `None` if it is not one: cut short by the crash, for instance.
fn digest_of(path: &Path) -> Result<Option<ProtectorDigest>, FileError> {
    let octets = hgs_files::read(path, MAX_PROTECTOR)?;
    let protector = Protector::read(&octets, &CertificateCache::new(0));
    Ok(protector.ok().map(|protector| protector.digest()))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use hgs_crypto::SecretBytes;
    use hgs_crypto::random::System;
    use hgs_pki::SignatureCache;
    use hgs_protector::TransportKey;
    use hgs_testkit::fixtures::{Forge, Guardian, key_octets};
    use hgs_testkit::tool;
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;
    use hgs_files::FileProblem;

    const STEPS: [Step; 5] = [
        Step::ProtectorStaged,
        Step::FileStaged,
        Step::Synchronised,
        Step::FileReplaced,
        Step::ProtectorReplaced,
    ];

    /// A protector with the key of octets `number`.
    fn protector(number: u8) -> VerifiedProtector {
        let (owner, fabric) = (Guardian::named("owner"), Guardian::named("fabric"));
        let octets = Forge::new(owner, &[fabric], key_octets(number)).seal(owner);
        Protector::read(octets.as_bytes(), &CertificateCache::new(4))
            .unwrap()
            .verify(&SignatureCache::new(4))
            .unwrap()
    }

    fn key(number: u8) -> TransportKey {
        TransportKey::from_secret(SecretBytes::from(&key_octets(number)[..])).unwrap()
    }

    fn sealed(number: u8, protector: &VerifiedProtector) -> Vec<u8> {
        let plaintext = SecretBytes::from(&b"the state of a vTPM"[..]);
        let digest = protector.digest();
        sealed_file::seal(&key(number), &digest, &plaintext, &mut System::new()).unwrap()
    }

    /// A folder with the pair of key 1.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            let protector = protector(1);
            fs::write(folder.protector(), protector.octets()).unwrap();
            fs::write(folder.file(), sealed(1, &protector)).unwrap();
            folder
        }

        fn protector(&self) -> PathBuf {
            self.0.path().join("vm.protector")
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("vm.state")
        }

        fn open(&self) -> SealedPair {
            SealedPair::open(&self.protector(), &self.file()).unwrap()
        }

        /// Which key opens the file, when the protector beside it holds that key.
        fn key_of_the_pair(&self) -> u8 {
            let pair = self.open();
            let protector = Protector::read(pair.protector(), &CertificateCache::new(0))
                .unwrap()
                .verify(&SignatureCache::new(0))
                .unwrap();
            let file = SealedFile::read(pair.file()).unwrap();
            let opens = |number: &u8| {
                protector.check_transport_key(&key(*number)).is_ok()
                    && file.open(&key(*number)).is_ok()
            };
            (1..=2).find(opens).expect("the pair belongs together")
        }

        fn assert_no_leftovers(&self) {
            assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 2);
        }
    }

    fn replace(
        pair: SealedPair,
        after: impl FnMut(Step) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let egress = protector(2);
        pair.replace_step_by_step(egress.octets(), &sealed(2, &egress), after)
    }

    fn key_after(last: Step) -> u8 {
        match last {
            Step::ProtectorStaged | Step::FileStaged | Step::Synchronised => 1,
            Step::FileReplaced | Step::ProtectorReplaced => 2,
        }
    }

    #[test]
    fn an_error_after_any_step_leaves_a_pair_that_opens() {
        for last in STEPS {
            let folder = Folder::new();
            let outcome = replace(folder.open(), |step| {
                let fails = Err(FileError {
                    path: PathBuf::new(),
                    problem: FileProblem::InUse,
                });
                if step == last { fails } else { Ok(()) }
            });
            assert!(outcome.is_err());
            assert_eq!(folder.key_of_the_pair(), key_after(last), "{last:?}");
            folder.assert_no_leftovers();
        }
    }

    const FOLDER: &str = "OPENHGS_TEST_FOLDER";
    const LAST: &str = "OPENHGS_TEST_LAST_STEP";

    #[test]
    fn being_killed_after_any_step_leaves_a_pair_that_opens() {
        for (index, last) in STEPS.into_iter().enumerate() {
            let folder = Folder::new();
            let status = Command::new(env::current_exe().unwrap())
                .args(["--exact", "sealed_pair::tests::the_process_that_is_killed"])
                .env(FOLDER, folder.0.path())
                .env(LAST, index.to_string())
                .output()
                .unwrap()
                .status;
            assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{last:?}");
            assert_eq!(folder.key_of_the_pair(), key_after(last), "{last:?}");
            folder.assert_no_leftovers();
        }
    }

    /// A killed process does not show what a power cut does. What does: that nothing is renamed before what it stands
    /// for is synchronised, by name and by content.
    #[test]
    fn everything_is_synchronised_before_it_is_relied_on() {
        let folder = Folder::new();
        let output = Command::new(tool("strace", "strace"))
            .args(["-f", "-y", "-qq", "-e", "signal=none"])
            .args(["-e", "trace=fsync,fdatasync,rename,renameat,renameat2"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "sealed_pair::tests::the_process_that_is_killed"])
            .env(FOLDER, folder.0.path())
            .env(LAST, (STEPS.len() - 1).to_string())
            .output()
            .unwrap();
        let trace = String::from_utf8(output.stderr).unwrap();
        let place = folder.0.path().to_str().unwrap();
        let calls: Vec<String> = trace
            .lines()
            .filter(|line| line.contains(place))
            .map(|line| call(line, place))
            .collect();
        let expected = [
            "fsync .vm.protector.new",
            "fsync .vm.state.new",
            "fsync .",
            "rename .vm.state.new vm.state",
            "fsync .",
            "rename .vm.protector.new vm.protector",
            "fsync .",
        ];
        assert_eq!(calls, expected, "{trace}");
    }

    /// The name of a system call and the names of its files, without their folder.
    fn call(line: &str, folder: &str) -> String {
        let (name, arguments) = line.split_once('(').unwrap();
        let mut words = vec![name.rsplit(' ').next().unwrap().to_owned()];
        for part in arguments.split(folder).skip(1) {
            let end = part.find(['"', '>']).unwrap();
            let file = part[..end].trim_start_matches('/');
            words.push(if file.is_empty() { "." } else { file }.to_owned());
        }
        words.join(" ")
    }

    /// Not a test of its own: the process of the tests above.
    #[test]
    fn the_process_that_is_killed() {
        let (Some(folder), Ok(last)) = (env::var_os(FOLDER), env::var(LAST)) else {
            return;
        };
        let folder = PathBuf::from(folder);
        let last = STEPS[last.parse::<usize>().unwrap()];
        let pair =
            SealedPair::open(&folder.join("vm.protector"), &folder.join("vm.state")).unwrap();
        let _ = replace(pair, |step| {
            if step == last {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
            Ok(())
        });
    }

    /// Not what a killed process leaves, but what a disk without power may: the new protector cut short.
    #[test]
    fn leftovers_that_are_cut_short_are_cleared() {
        let folder = Folder::new();
        for target in [folder.protector(), folder.file()] {
            let octets = protector(2).octets().to_vec();
            fs::write(Staged::path(&target).unwrap(), &octets[..octets.len() / 2]).unwrap();
        }
        assert_eq!(folder.key_of_the_pair(), 1);
        folder.assert_no_leftovers();
    }

    #[test]
    fn the_new_pair_replaces_the_old_and_keeps_its_permissions() {
        let folder = Folder::new();
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(folder.protector(), mode.clone()).unwrap();
        let egress = protector(2);
        folder.open().replace(&egress, &sealed(2, &egress)).unwrap();
        assert_eq!(folder.key_of_the_pair(), 2);
        let found = fs::metadata(folder.protector()).unwrap().permissions();
        assert_eq!(found.mode() & 0o777, mode.mode());
        folder.assert_no_leftovers();
    }

    #[test]
    fn a_pair_is_opened_by_one_at_a_time() {
        let folder = Folder::new();
        let _pair = folder.open();
        let error = SealedPair::open(&folder.protector(), &folder.file()).unwrap_err();
        assert!(matches!(
            error,
            SealedPairError::File(FileError {
                problem: FileProblem::InUse,
                ..
            })
        ));
    }

    #[test]
    fn a_file_that_is_not_sealed_is_refused_before_anything_is_touched() {
        let folder = Folder::new();
        fs::write(folder.file(), b"plain").unwrap();
        let error = SealedPair::open(&folder.protector(), &folder.file()).unwrap_err();
        assert!(matches!(
            error,
            SealedPairError::SealedFile {
                problem: SealedFileError::NotSealed,
                ..
            }
        ));
    }
}
