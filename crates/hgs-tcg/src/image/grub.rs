//! What GRUB measures: commands in PCR 8, files in PCR 9.

use hgs_crypto::hash::Sha256Digest;

use super::PredictedEvent;
use super::authenticode::application;

/// A command of GRUB's script (`grub_cmd: ` in the event's data). The text is hashed without that prefix and without
/// the NUL at its end.
#[must_use]
pub fn command(text: &str) -> PredictedEvent {
    PredictedEvent::of(8, "GRUB command", text.as_bytes())
}

/// The kernel's command line (`kernel_cmdline: ` in the event's data): it begins with the path of the kernel, without
/// the `BOOT_IMAGE=` that the kernel sees.
#[must_use]
pub fn kernel_command_line(path: &str, arguments: &str) -> PredictedEvent {
    let separator = if arguments.is_empty() { "" } else { " " };
    let text = format!("{path}{separator}{arguments}");
    PredictedEvent::of(8, "kernel command line", text.as_bytes())
}

/// A file that GRUB reads: its configuration, a kernel, an initrd.
#[must_use]
pub fn file(path: &str, contents: &[u8]) -> PredictedEvent {
    PredictedEvent::of(9, path, contents)
}

/// The whole of a kernel that GRUB loads from `path`: the file in PCR 9; while Secure Boot is on, the image in PCR 4,
/// twice, because GRUB has shim verify it twice; and the command line in PCR 8.
#[must_use]
pub fn kernel(
    path: &str,
    contents: &[u8],
    image: Option<Sha256Digest>,
    arguments: &str,
) -> Vec<PredictedEvent> {
    let verified = image.map(|digest| application(path, digest));
    let twice = [verified.clone(), verified].into_iter().flatten();
    [file(path, contents)]
        .into_iter()
        .chain(twice)
        .chain([kernel_command_line(path, arguments)])
        .collect()
}
