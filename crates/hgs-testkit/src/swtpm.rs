//! A TPM 2.0 in software (swtpm), in a folder and a process of its own.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tool;

/// How long swtpm may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// TPM_RC_RETRY: the TPM wants the same octets again.
const RETRY: [u8; 4] = [0, 0, 9, 0x22];

/// A fresh TPM that has been started up. The process ends with this value.
#[derive(Debug)]
pub struct SoftwareTpm {
    process: Child,
    folder: TempDir,
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
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut process = Command::new(tool("swtpm", "swtpm"))
            .args(["socket", "--tpm2"])
            .args(["--tpmstate", &format!("dir={}", folder.path().display())])
            .args(["--server", &format!("type=unixio,path={}", path("socket"))])
            // Where the tools of the TPM 2.0 software stack look for it.
            .args([
                "--ctrl",
                &format!("type=unixio,path={}", path("socket.ctrl")),
            ])
            .args(["--flags", "not-need-init,startup-clear"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let connection = loop {
            if let Ok(connection) = UnixStream::connect(&socket) {
                break connection;
            }
            assert_eq!(process.try_wait().unwrap(), None, "swtpm has ended");
            assert!(start.elapsed() < PATIENCE, "swtpm does not start");
            std::thread::sleep(Duration::from_millis(5));
        };
        Self {
            process,
            folder,
            connection: Some(connection),
        }
    }

    /// The folder of the TPM; for a test's own files too.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
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
        let socket = self.folder.path().join("socket");
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

    /// Runs one of tpm2-tools on this TPM, in [`Self::folder`].
    ///
    /// # Panics
    ///
    /// If it is not installed or fails.
    pub fn tool(&mut self, program: &str, arguments: &[&str]) -> Output {
        // The tool needs the connection.
        self.connection = None;
        let socket = self.folder.path().join("socket");
        let output = Command::new(tool(program, "tpm2-tools"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", socket.display()))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        output
    }
}

impl Drop for SoftwareTpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
