//! Octets to a TPM and back.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hgs_tcg::tpm::MAX_MESSAGE;

use crate::device::Device;

/// How long a TPM may take for one command. Some need more than a minute for an RSA key.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long it may take to answer the first command, which is a quick one: a software TPM serves one connection, and lets
/// others wait.
pub(crate) const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// A way to a TPM.
pub(crate) trait Transport: Send + Debug {
    /// Sends a command and receives its response.
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;

    /// The TPM has answered: from now on it may take its time.
    fn is_served(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens the way to `device`.
pub(crate) fn connect(device: &Device) -> io::Result<Box<dyn Transport>> {
    Ok(match device {
        Device::Character(path) => {
            let file = File::options().read(true).write(true).open(path)?;
            // Or a wrong path in the configuration would have a file overwritten.
            if !file.metadata()?.file_type().is_char_device() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "this is no character device",
                ));
            }
            Box::new(CharacterDevice(file))
        }
        Device::UnixSocket(path) => over(UnixStream::connect(path)?)?,
        Device::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port))?;
            stream.set_read_timeout(Some(FIRST_PATIENCE))?;
            stream.set_nodelay(true)?;
            Box::new(Stream(stream))
        }
    })
}

/// The way to a TPM over a connection to it.
pub(crate) fn over(stream: UnixStream) -> io::Result<Box<dyn Transport>> {
    stream.set_read_timeout(Some(FIRST_PATIENCE))?;
    Ok(Box::new(Stream(stream)))
}

/// The kernel's device takes a command in one write, and gives its response in one read. It has time limits of its own.
#[derive(Debug)]
struct CharacterDevice(File);

impl Transport for CharacterDevice {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut response = vec![0; MAX_MESSAGE];
        let size = self.0.read(&mut response)?;
        response.truncate(size);
        Ok(response)
    }
}

/// A stream of octets, in which the header of a response says where it ends.
#[derive(Debug)]
struct Stream<S>(S);

/// What a stream is asked for beside octets.
trait Patient {
    fn set_patience(&self, patience: Duration) -> io::Result<()>;
}

impl Patient for UnixStream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))
    }
}

impl Patient for TcpStream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))
    }
}

impl<S: Read + Write + Patient + Send + Debug> Transport for Stream<S> {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut response = vec![0; 10];
        self.0.read_exact(&mut response)?;
        let size = response[2..6].try_into().map_or(0, u32::from_be_bytes) as usize;
        if !(response.len()..=MAX_MESSAGE).contains(&size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what answers is no TPM",
            ));
        }
        response.resize(size, 0);
        self.0.read_exact(&mut response[10..])?;
        Ok(response)
    }

    fn is_served(&mut self) -> io::Result<()> {
        self.0.set_patience(PATIENCE)
    }
}
