//! The vTPM as the image's maker uses it: brought into the state of a boot that has not happened yet.

use std::path::Path;

use hgs_custody_tpm::{Device, Tpm, TpmError};

use super::measured::MeasuredBoot;
use super::{ImageError, Tools};
use crate::swtpm::{Channels, Contents, Settings, StateKey, Swtpm};

/// TPM2_Startup(TPM_SU_CLEAR).
const STARTUP: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0];
/// TPM2_Shutdown(TPM_SU_CLEAR).
const SHUTDOWN: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0];

/// Starts the TPM whose state is in `folder`, extends its PCR 7 as the boot will, and has `work` done with it: at the
/// socket that it is given, and whose control channel is beside it.
pub(super) fn in_measured_state(
    tools: &Tools,
    folder: &Path,
    key: &StateKey,
    boot: &MeasuredBoot,
    work: impl FnOnce(&Path) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    // The path of a socket has to be short, and the one of the VM's folder may be long.
    let sockets = tempfile::tempdir_in("/tmp").map_err(ImageError::at(Path::new("/tmp")))?;
    let socket = sockets.path().join("tpm");
    let mut swtpm = Swtpm::start(&Settings {
        program: &tools.swtpm,
        folder,
        contents: Contents::Kept,
        key,
        migration_key: None,
        channels: Channels::Programs(&socket),
    })?;
    swtpm.initialise()?;
    swtpm.hand_over();
    let command = |commands: &[&[u8]], digests: &[[u8; 32]]| -> Result<(), TpmError> {
        let mut tpm = Tpm::open(&Device::UnixSocket(socket.clone()), None)?;
        commands
            .iter()
            .try_for_each(|command| tpm.execute(command).map(drop))?;
        digests
            .iter()
            .try_for_each(|digest| tpm.extend_pcr(7, digest))
    };
    command(&[&STARTUP], boot.digests())?;
    work(&socket)?;
    command(&[&SHUTDOWN], &[])?;
    swtpm.shut_down()?;
    Ok(())
}
