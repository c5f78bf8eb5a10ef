//! A TPM 2.0 in software (swtpm), in a folder and a process of its own.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};

use hgs_custody_tpm::Device;
use hgs_custody_tpm::simulator::{self, Simulator, SimulatorAuthority, SimulatorError};

use crate::tool;

/// TPM_RC_RETRY: the TPM wants the same octets again.
const RETRY: [u8; 4] = [0, 0, 9, 0x22];

/// A fresh TPM that has been started up. The process ends with this value.
#[derive(Debug)]
pub struct SoftwareTpm {
    simulator: Simulator,
    /// One at a time: the TPM serves one connection.
    connection: Option<UnixStream>,
}

impl SoftwareTpm {
    /// Makes a TPM with seeds of its own.
    ///
    /// # Panics
    ///
    /// If swtpm is not installed or does not start.
    #[expect(
        clippy::new_without_default,
        reason = "it creates a folder and starts a program"
    )]
    pub fn new() -> Self {
        Self::of(Simulator::new().unwrap_or_else(|error| failed(&error)))
    }

    /// Makes a TPM with seeds of its own, for whose endorsement key the authority writes a certificate into it.
    ///
    /// # Panics
    ///
    /// If swtpm or its tools are not installed or fail.
    pub fn certified(authority: &SimulatorAuthority) -> Self {
        Self::of(Simulator::certified(authority).unwrap_or_else(|error| failed(&error)))
    }

    fn of(simulator: Simulator) -> Self {
        Self {
            simulator,
            connection: None,
        }
    }

    /// Starts the TPM anew and has a boot measured: every event of the log, as its digests of SHA-256 say.
    ///
    /// # Panics
    ///
    /// If the log is none, or the TPM refuses.
    pub fn boot(&mut self, log: &[u8]) {
        self.connection = None;
        let booted = self.simulator.boot(log);
        let _events = booted.unwrap_or_else(|error| failed(&error));
    }

    /// Starts the TPM anew: the PCRs have their first values, and keys and sessions are gone.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&mut self) {
        self.connection = None;
        let started = self.simulator.restart();
        started.unwrap_or_else(|error| failed(&error));
    }

    /// Where it is, for those who open it themselves: it serves one connection, and this gives up its own.
    pub fn device(&mut self) -> Device {
        self.connection = None;
        self.simulator.device()
    }

    /// The folder of the TPM; for a test's own files too.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.simulator.folder()
    }

    /// Sends a command and returns the response. A command that the TPM wants again is sent again.
    ///
    /// # Panics
    ///
    /// If the TPM does not answer.
    pub fn send(&mut self, command: &[u8]) -> Vec<u8> {
        for _ in 0..10 {
            let response = self.send_once(command);
            if response[6..10] != RETRY {
                return response;
            }
        }
        panic!("the TPM stays busy");
    }

    fn send_once(&mut self, command: &[u8]) -> Vec<u8> {
        let socket = self.simulator.folder().join("socket");
        let connection = self
            .connection
            .get_or_insert_with(|| UnixStream::connect(socket).unwrap());
        connection.write_all(command).unwrap();
        let mut response = vec![0; 10];
        connection.read_exact(&mut response).unwrap();
        let size = u32::from_be_bytes(response[2..6].try_into().unwrap());
        response.resize(size as usize, 0);
        connection.read_exact(&mut response[10..]).unwrap();
        response
    }

    /// Gives the connection up, so that another program can have it.
    pub fn release(&mut self) {
        self.connection = None;
    }

    /// Runs one of tpm2-tools on this TPM, in [`Self::folder`].
    ///
    /// # Panics
    ///
    /// If it is not installed or fails.
    pub fn tool(&mut self, program: &str, arguments: &[&str]) -> Output {
        let output = self.try_tool(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        output
    }

    /// The same where the TPM may refuse.
    ///
    /// # Panics
    ///
    /// If it is not installed.
    pub fn try_tool(&mut self, program: &str, arguments: &[&str]) -> Output {
        // The tool needs the connection.
        self.connection = None;
        let socket = self.simulator.folder().join("socket");
        Command::new(tool(program, "tpm2-tools"))
            .args(arguments)
            .current_dir(self.simulator.folder())
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", socket.display()))
            .output()
            .unwrap()
    }
}

fn failed(error: &SimulatorError) -> ! {
    match error.package() {
        Some(package) => panic!("{error}: install the Debian package {package}"),
        None => panic!("{error}"),
    }
}

/// A log in which another digest of SHA-256 stands for one event: as if something else had been measured there.
///
/// # Panics
///
/// If the log is none, or has no such event.
#[must_use]
pub fn altered_log(log: &[u8], event: usize) -> Vec<u8> {
    let altered = simulator::alter_event(log, event).unwrap();
    altered.expect("the log has the event")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tpm_answers_and_so_it_does_after_a_tool() {
        let mut tpm = SoftwareTpm::new();
        // TPM2_GetRandom of 8 octets.
        let command = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8];
        assert_eq!(tpm.send(&command).len(), 20);
        tpm.tool("tpm2_getrandom", &["--hex", "8"]);
        assert_eq!(tpm.send(&command).len(), 20);
    }
}
