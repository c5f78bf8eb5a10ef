//! The control channel of swtpm: what a machine's firmware and hypervisor do to a TPM beside sending it commands.
//!
//! swtpm serves one control connection, and lets a second one wait without an answer. So every read has a time limit, and
//! a [`Control`] is dropped before another program is to have the channel.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hgs_crypto::SecretBytes;

/// How long swtpm may take for one command. The slowest makes a TPM's seeds, which takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Octets of the largest state that is read. A permanent state has some 6,000, and NV memory can't exceed 64 KiB.
pub const MAX_STATE: usize = 256 * 1024;

const DECRYPTED: u32 = 1;
const DELETE_VOLATILE: u32 = 1;

/// A command of the control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlCommand {
    /// Starts the TPM with the state in its folder.
    Init,
    /// Ends the process.
    Shutdown,
    /// Sets the locality of the commands that follow.
    SetLocality,
    /// Writes the volatile state into the folder.
    StoreVolatile,
    /// Reads a part of the state.
    GetStateBlob,
    /// Gives it a part of the state, before [`Self::Init`].
    SetStateBlob,
    /// Stops the TPM; the process goes on.
    Stop,
    /// Says which keys the process was given.
    GetConfig,
}

impl ControlCommand {
    fn code(self) -> u32 {
        match self {
            Self::Init => 2,
            Self::Shutdown => 3,
            Self::SetLocality => 5,
            Self::StoreVolatile => 10,
            Self::GetStateBlob => 12,
            Self::SetStateBlob => 13,
            Self::Stop => 14,
            Self::GetConfig => 15,
        }
    }
}

impl fmt::Display for ControlCommand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Init => "CMD_INIT",
            Self::Shutdown => "CMD_SHUTDOWN",
            Self::SetLocality => "CMD_SET_LOCALITY",
            Self::StoreVolatile => "CMD_STORE_VOLATILE",
            Self::GetStateBlob => "CMD_GET_STATEBLOB",
            Self::SetStateBlob => "CMD_SET_STATEBLOB",
            Self::Stop => "CMD_STOP",
            Self::GetConfig => "CMD_GET_CONFIG",
        })
    }
}

/// What swtpm answers instead of success: a TPM_RESULT of TPM 1.2, or a TPM_RC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TpmResult(u32);

impl TpmResult {
    /// The file system refuses, or another process has the folder's lock.
    pub const FAIL: Self = Self(0x09);
    /// Not possible in this state: before CMD_INIT, or after it.
    pub const BAD_ORDINAL: Self = Self(0x0a);
    /// The state is encrypted, and the process was given no key for it.
    pub const KEY_NOT_FOUND: Self = Self(0x0d);
    /// The HMAC of an encrypted state is wrong: it is under another key, or it was altered.
    pub const DECRYPT_ERROR: Self = Self(0x21);
    /// The key has another size than the state says.
    pub const BAD_KEY_PROPERTY: Self = Self(0x28);
    /// The TPM does not start: its state can't be read.
    pub const FAILURE: Self = Self(0x101);
    /// There is no such state.
    pub const RETRY: Self = Self(0x800);

    /// As it stands in an answer.
    #[must_use]
    pub fn new(value: u32) -> Self {
        Self(value)
    }

    /// As it stands in an answer.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TpmResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, meaning) = match *self {
            Self::FAIL => (
                "TPM_FAIL",
                "the folder can't be used, or another process has its lock",
            ),
            Self::BAD_ORDINAL => ("TPM_BAD_ORDINAL", "not possible in this state of the TPM"),
            Self::KEY_NOT_FOUND => (
                "TPM_KEYNOTFOUND",
                "the state is encrypted, and swtpm was given no key",
            ),
            Self::DECRYPT_ERROR => (
                "TPM_DECRYPT_ERROR",
                "the state is under another key, or was altered",
            ),
            Self::BAD_KEY_PROPERTY => (
                "TPM_BAD_KEY_PROPERTY",
                "the key has another size than that of the state",
            ),
            Self::FAILURE => ("TPM_RC_FAILURE", "the state of the TPM can't be read"),
            Self::RETRY => ("TPM_RETRY", "there is no such state"),
            _ => ("an unknown result", "see tpm_error.h of libtpms"),
        };
        write!(formatter, "{name} ({:#x}): {meaning}", self.0)
    }
}

/// Why a command of the control channel was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// swtpm refused.
    #[error("swtpm refused {command}: {result}")]
    Refused {
        /// Which command.
        command: ControlCommand,
        /// What it answered.
        result: TpmResult,
    },
    /// No answer in time.
    #[error(
        "swtpm did not answer {command} within {} seconds: another program may have its control channel",
        PATIENCE.as_secs()
    )]
    Silent {
        /// Which command.
        command: ControlCommand,
    },
    /// The process ended, or closed the channel.
    #[error("swtpm ended before it answered {command}")]
    Ended {
        /// Which command.
        command: ControlCommand,
    },
    /// An answer that contradicts itself.
    #[error("swtpm's answer to {command} is malformed: {fault}")]
    Malformed {
        /// Which command.
        command: ControlCommand,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The channel can't be opened or used.
    #[error("the control channel of swtpm: {0}")]
    System(#[from] io::Error),
}

impl ControlError {
    /// What swtpm answered, if it answered.
    #[must_use]
    pub fn result(&self) -> Option<TpmResult> {
        match self {
            Self::Refused { result, .. } => Some(*result),
            _ => None,
        }
    }
}

/// A part of a TPM's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// Seeds, persistent keys, NV memory.
    Permanent,
    /// PCRs, loaded keys, sessions.
    Volatile,
}

impl StateKind {
    fn code(self) -> u32 {
        match self {
            Self::Permanent => 1,
            Self::Volatile => 2,
        }
    }
}

/// Which keys a process was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration {
    /// A key for the files of its state: without one they are in clear.
    pub state_key: bool,
    /// A key for state that leaves or enters through the control channel: without one it is in clear there.
    pub migration_key: bool,
}

/// What becomes of a volatile state that an earlier process wrote into the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredVolatileState {
    /// It is deleted: the TPM starts as at power-on.
    Delete,
    /// It is resumed, if there is one.
    Resume,
}

/// The control channel of one swtpm.
#[derive(Debug)]
pub struct Control(UnixStream);

impl Control {
    /// Opens the channel at a socket.
    ///
    /// # Errors
    /// When swtpm does not listen there.
    pub fn connect(socket: &Path) -> Result<Self, ControlError> {
        Self::over(UnixStream::connect(socket)?)
    }

    /// Speaks over a channel that is open already.
    ///
    /// # Errors
    /// When it takes no time limits.
    pub fn over(channel: UnixStream) -> Result<Self, ControlError> {
        channel.set_read_timeout(Some(PATIENCE))?;
        channel.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(channel))
    }

    /// Which keys the process was given.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn configuration(&mut self) -> Result<Configuration, ControlError> {
        let [flags] = self.ask(ControlCommand::GetConfig, &[])?;
        Ok(Configuration {
            state_key: flags & 1 != 0,
            migration_key: flags & 2 != 0,
        })
    }

    /// Starts the TPM. Without a state in its folder, swtpm makes a new TPM with new seeds: callers make sure of one
    /// before.
    ///
    /// # Errors
    /// When the state can't be read, or another process has the folder's lock.
    pub fn initialise(&mut self, stored: StoredVolatileState) -> Result<(), ControlError> {
        let flags = match stored {
            StoredVolatileState::Delete => DELETE_VOLATILE,
            StoredVolatileState::Resume => 0,
        };
        self.order(ControlCommand::Init, &flags.to_be_bytes())
    }

    /// Ends the process, which answers before it does.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn shut_down(&mut self) -> Result<(), ControlError> {
        self.order(ControlCommand::Shutdown, &[])
    }

    /// Stops the TPM. The process goes on and takes another [`Self::initialise`].
    ///
    /// # Errors
    /// When it does not answer.
    pub fn stop(&mut self) -> Result<(), ControlError> {
        self.order(ControlCommand::Stop, &[])
    }

    /// Sets the locality of the commands that follow on the data channel.
    ///
    /// # Errors
    /// When there is no such locality.
    pub fn set_locality(&mut self, locality: u8) -> Result<(), ControlError> {
        self.order(ControlCommand::SetLocality, &[locality])
    }

    /// Has the volatile state written into the folder, from where the next start resumes it.
    ///
    /// # Errors
    /// When the TPM is not started.
    pub fn store_volatile(&mut self) -> Result<(), ControlError> {
        self.order(ControlCommand::StoreVolatile, &[])
    }

    /// Reads a part of the state of a started TPM: under the migration key if the process was given one, else in clear.
    ///
    /// # Errors
    /// When the TPM is not started or has no such state.
    pub fn state(&mut self, kind: StateKind) -> Result<SecretBytes, ControlError> {
        let command = ControlCommand::GetStateBlob;
        let malformed = |fault| ControlError::Malformed { command, fault };
        let body = [DECRYPTED, kind.code(), 0].map(u32::to_be_bytes).concat();
        let [flags, total, length] = self.ask(command, &body)?;
        // One answer has it all over a socket; parts are for the character device.
        let length = length as usize;
        if flags != 0 {
            return Err(malformed("the state is still under the key of its file"));
        }
        if total as usize != length || !(1..=MAX_STATE).contains(&length) {
            return Err(malformed("its length is not that of a state"));
        }
        let mut octets = vec![0; length];
        let read = self.0.read_exact(&mut octets);
        let state = SecretBytes::new(octets);
        read.map_err(|error| broken(command, error))?;
        Ok(state)
    }

    /// Gives a TPM that is not started a part of its state, as [`Self::state`] of a process with the same migration key
    /// returned it. It reaches the folder with [`Self::initialise`]. After a refusal, starting would make an empty TPM:
    /// the process has to be killed.
    ///
    /// # Errors
    /// When the state is not under the migration key, or the TPM is started.
    pub fn set_state(&mut self, kind: StateKind, state: &SecretBytes) -> Result<(), ControlError> {
        let command = ControlCommand::SetStateBlob;
        let length = u32::try_from(state.len()).unwrap_or(u32::MAX);
        let head = [command.code(), 0, kind.code(), length];
        let head = head.map(u32::to_be_bytes).concat();
        self.send(command, &head)?;
        self.send(command, state.expose())?;
        self.answer(command).map(|[]| ())
    }

    fn order(&mut self, command: ControlCommand, body: &[u8]) -> Result<(), ControlError> {
        self.ask(command, body).map(|[]| ())
    }

    fn ask<const N: usize>(
        &mut self,
        command: ControlCommand,
        body: &[u8],
    ) -> Result<[u32; N], ControlError> {
        let code = command.code().to_be_bytes();
        self.send(command, &[&code[..], body].concat())?;
        self.answer(command)
    }

    fn send(&mut self, command: ControlCommand, octets: &[u8]) -> Result<(), ControlError> {
        self.0
            .write_all(octets)
            .map_err(|error| broken(command, error))
    }

    /// The result and the `N` numbers that follow it. A refusal comes with or without them, in one write; so what is
    /// there beside the result is taken away with it.
    fn answer<const N: usize>(
        &mut self,
        command: ControlCommand,
    ) -> Result<[u32; N], ControlError> {
        let mut octets = vec![0; 4 * (N + 1)];
        let mut filled = 0;
        while filled < octets.len() {
            match self.0.read(&mut octets[filled..]) {
                Ok(0) => return Err(ControlError::Ended { command }),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(command, error)),
            }
            if let (4.., Some(result)) = (filled, number(&octets, 0).filter(|result| *result != 0))
            {
                let result = TpmResult(result);
                return Err(ControlError::Refused { command, result });
            }
        }
        Ok(std::array::from_fn(|place| {
            number(&octets, place + 1).unwrap_or_default()
        }))
    }
}

fn number(octets: &[u8], place: usize) -> Option<u32> {
    let (numbers, _) = octets.as_chunks();
    numbers.get(place).copied().map(u32::from_be_bytes)
}

fn broken(command: ControlCommand, error: io::Error) -> ControlError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::Silent { command },
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => ControlError::Ended { command },
        _ => ControlError::System(error),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A channel whose other end answers each command with the next of `answers`.
    fn answered(answers: Vec<Vec<u8>>) -> (Control, thread::JoinHandle<Vec<Vec<u8>>>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let served = thread::spawn(move || {
            let answer = |answer: Vec<u8>| {
                let mut command = vec![0; 64];
                let length = theirs.read(&mut command).unwrap();
                command.truncate(length);
                theirs.write_all(&answer).unwrap();
                command
            };
            answers.into_iter().map(answer).collect()
        });
        (Control::over(ours).unwrap(), served)
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn a_refusal_has_two_lengths_and_the_channel_goes_on_after_both() {
        let (mut control, served) = answered(vec![
            words(&[0x0a]),
            words(&[0x800, 0, 0, 0]),
            words(&[0, 0, 3, 3, 0x0102_0300])[..19].to_vec(),
            words(&[0, 3]),
        ]);
        let result = |control: &mut Control| {
            let refused = control.state(StateKind::Volatile).unwrap_err();
            refused.result()
        };
        assert_eq!(result(&mut control), Some(TpmResult::BAD_ORDINAL));
        assert_eq!(result(&mut control), Some(TpmResult::RETRY));
        let state = control.state(StateKind::Permanent).unwrap();
        assert_eq!(state.expose(), [1, 2, 3]);
        let configuration = control.configuration().unwrap();
        assert!(configuration.state_key && configuration.migration_key);
        let commands = served.join().unwrap();
        assert_eq!(commands[0], words(&[12, 1, 2, 0]));
        assert_eq!(commands[2], words(&[12, 1, 1, 0]));
        assert_eq!(commands[3], words(&[15]));
    }

    #[test]
    fn state_under_the_key_of_its_file_and_impossible_lengths_are_refused() {
        for head in [
            [0, 2, 3, 3],
            [0, 0, 4, 3],
            [0, 0, 0, 0],
            [0, 0, u32::MAX, u32::MAX],
        ] {
            let (mut control, _served) = answered(vec![words(&head)]);
            let refused = control.state(StateKind::Permanent).unwrap_err();
            assert!(
                matches!(refused, ControlError::Malformed { .. }),
                "{refused}"
            );
        }
    }

    #[test]
    fn an_end_within_an_answer_is_told() {
        let (mut control, served) = answered(vec![words(&[0])]);
        let ended = control.configuration().unwrap_err();
        assert_eq!(
            ended.to_string(),
            "swtpm ended before it answered CMD_GET_CONFIG"
        );
        served.join().unwrap();
        // The process is gone when it is asked.
        let gone = control.stop().unwrap_err();
        assert!(matches!(gone, ControlError::Ended { .. }), "{gone}");
    }
}
