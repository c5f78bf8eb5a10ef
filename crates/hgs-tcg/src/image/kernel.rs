//! What firmware measures when it starts an image, and the kernel's own EFI stub after that.

use hgs_crypto::hash::Sha256Digest;

use super::PredictedEvent;
use super::authenticode::application;
use super::variable::utf16;

/// An image that the firmware starts, in PCR 4, by one of its Authenticode digests.
#[must_use]
pub fn image(name: &str, digest: Sha256Digest) -> PredictedEvent {
    application(name, digest)
}

/// LoadOptions in PCR 9 (EV_EVENT_TAG): the command line in UTF-16 with a NUL. GRUB's older `linux` and `linuxefi`
/// commands start the kernel past its stub, and this event is missing.
#[must_use]
pub fn load_options(command_line: &str) -> PredictedEvent {
    let mut preimage = utf16(command_line);
    preimage.extend([0, 0]);
    PredictedEvent::of(9, "LoadOptions", &preimage)
}

/// An initrd that the stub loads itself, in PCR 9 (`Linux initrd`, EV_EVENT_TAG).
#[must_use]
pub fn initrd(contents: &[u8]) -> PredictedEvent {
    PredictedEvent::of(9, "Linux initrd", contents)
}
