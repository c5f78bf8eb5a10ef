//! The context of the remote TPM protocol ([MS-HGSA] 2.2.2.25 to 2.2.2.27): a sealed state, which only the server reads,
//! and blobs. Numbers are little-endian.

use hgs_tcg::tpm::MAX_MESSAGE;
use hgs_tcg::{event_log, ima};

use crate::policy::{
    EventDigest, MAX_NEXT_BOOT_OCTETS, PCRS_OF_USER_SPACE, Preimage, UnexplainedEvent,
};

/// Octets of a context, at most: both logs at their limits, and what stands beside them.
pub const MAX_CONTEXT: usize = ima::Limits::LOG.octets + event_log::Limits::LOG.octets + 512 * 1024;

/// Blobs of a context, at most.
pub const MAX_BLOBS: usize = 128;

/// Octets of the sealed state, at most, with what stands before it.
pub const MAX_SEALED_STATE: usize = 16 * 1024;

/// Octets of one preimage, at most, and of all together.
pub const MAX_PREIMAGES: usize = 256 * 1024;

/// What stands before the sealed state: [MS-HGSA] 2.2.2.25.
const HEADER: usize = 16;
const VERSION: u32 = 1;

/// EncContext ([MS-HGSA] 2.2.2.26), and the length of what follows it.
const ENC_CONTEXT: usize = 32;
const LENGTH: usize = 4;

const EVENT_LOG: u32 = 1;
const DEVICE_INFO: u32 = 2;
const COMMAND: u32 = 3;
const RESPONSE: u32 = 4;
const IMA_LOG: u32 = 5;
const PREIMAGE: u32 = 6;
const NEXT_BOOT: u32 = 7;
const UNEXPLAINED_EVENT: u32 = 8;

/// A context, whose parts are where they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context<'o> {
    /// EncStateObject as it stands in the context: a host sends it back as it got it.
    pub sealed_state: &'o [u8],
    /// What follows.
    pub blobs: Vec<Blob<'o>>,
}

/// A data blob ([MS-HGSA] 2.2.2.27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob<'o> {
    /// The event log of the boot, as the firmware wrote it ([MS-HGSA] 2.2.2.27.1).
    EventLog(&'o [u8]),
    /// Which TPM it is ([MS-HGSA] 2.2.2.27.2).
    DeviceInfo(DeviceInfo),
    /// A command for the TPM ([MS-HGSA] 2.2.2.27.3).
    Command(&'o [u8]),
    /// The TPM's response to a command.
    Response(&'o [u8]),
    /// The log of IMA in its binary form.
    ImaLog(&'o [u8]),
    /// What an event of the log was made from.
    Preimage(Preimage),
    /// What the host says that it will boot next.
    NextBoot(&'o [u8]),
    /// An event of user space of which only the digest is known.
    UnexplainedEvent(UnexplainedEvent),
}

/// TPM_DEVICE_INFO ([MS-HGSA] 2.2.2.27.2). It is a claim of the host and decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo {
    /// TpmVersion ([MS-HGSA] 2.2.1.4).
    pub version: u32,
    /// TpmInterfaceType ([MS-HGSA] 2.2.1.5).
    pub interface: u32,
    /// TpmImplVersion.
    pub implementation: u32,
}

impl DeviceInfo {
    /// A TPM 2.0 behind a hardware interface.
    pub const HARDWARE: Self = Self {
        version: 2,
        interface: 3,
        implementation: 0,
    };

    /// A TPM 2.0 in software.
    pub const EMULATOR: Self = Self {
        interface: 4,
        ..Self::HARDWARE
    };
}

/// Why octets are not a context. The sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The octets end within a part.
    #[error("the context ends within {0}")]
    Truncated(&'static str),
    /// Size is not that of the context.
    #[error("the context says that it has {declared} octets, and has {found}")]
    Size {
        /// What Size says.
        declared: u32,
        /// How many octets there are.
        found: usize,
    },
    /// Version is not 1.
    #[error("the context has version {0}; there is version 1")]
    Version(u32),
    /// More octets than a part of a context may have.
    #[error("{part} has {found} octets, more than {limit}")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// How many it has.
        found: usize,
        /// How many it may have.
        limit: usize,
    },
    /// More blobs than [`MAX_BLOBS`].
    #[error("the context has {0} blobs, more than {MAX_BLOBS}")]
    TooManyBlobs(u32),
    /// Octets follow the last blob.
    #[error("octets follow the last blob of the context")]
    Trailing,
    /// A blob of a kind that there is not.
    #[error("the context has a blob of type {0}, which is unknown")]
    UnknownBlob(u32),
    /// A blob that is not of its kind's form.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// A log that stands in the context twice.
    #[error("the context has more than one {0}")]
    Doubled(&'static str),
}

impl ContextError {
    /// Whether the context went over a limit, rather than being none at all.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::TooManyBlobs(_))
    }
}

impl<'o> Context<'o> {
    /// Reads a context.
    pub fn read(octets: &'o [u8]) -> Result<Self, ContextError> {
        within(octets, "the context", MAX_CONTEXT)?;
        let mut rest = octets;
        let size = number(&mut rest, "its header")?;
        if size as usize != octets.len() {
            return Err(ContextError::Size {
                declared: size,
                found: octets.len(),
            });
        }
        let version = number(&mut rest, "its header")?;
        if version != VERSION {
            return Err(ContextError::Version(version));
        }
        let count = number(&mut rest, "its header")?;
        if count as usize > MAX_BLOBS {
            return Err(ContextError::TooManyBlobs(count));
        }
        // Reserved, which is ignored.
        number(&mut rest, "its header")?;
        let sealed_state = sealed_state(&mut rest)?;
        let mut blobs = Vec::with_capacity(count as usize);
        let mut preimages = 0;
        for _ in 0..count {
            let kind = number(&mut rest, "a blob")?;
            let size = number(&mut rest, "a blob")?;
            let blob = Blob::read(kind, take(&mut rest, size as usize, "a blob")?)?;
            if let Blob::Preimage(preimage) = &blob {
                preimages += preimage.octets.len();
                if preimages > MAX_PREIMAGES {
                    return Err(ContextError::TooLarge {
                        part: "the preimages of the context",
                        found: preimages,
                        limit: MAX_PREIMAGES,
                    });
                }
            }
            if blob.stands_once() && blobs.iter().any(|other| blob.is_same_kind(other)) {
                return Err(ContextError::Doubled(blob.name()));
            }
            blobs.push(blob);
        }
        match rest {
            [] => Ok(Self {
                sealed_state,
                blobs,
            }),
            _ => Err(ContextError::Trailing),
        }
    }

    /// The octets of the context.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let blobs: usize = self.blobs.iter().map(|blob| 8 + blob.size()).sum();
        let size = HEADER + self.sealed_state.len() + blobs;
        let mut octets = Vec::with_capacity(size);
        for number in [length(size), VERSION, length(self.blobs.len()), 0] {
            octets.extend(number.to_le_bytes());
        }
        octets.extend(self.sealed_state);
        for blob in &self.blobs {
            blob.write(&mut octets);
        }
        octets
    }
}

impl<'o> Blob<'o> {
    fn read(kind: u32, octets: &'o [u8]) -> Result<Self, ContextError> {
        Ok(match kind {
            EVENT_LOG => {
                within(octets, "the event log", event_log::Limits::LOG.octets)?;
                Self::EventLog(octets)
            }
            IMA_LOG => {
                within(octets, "the IMA log", ima::Limits::LOG.octets)?;
                Self::ImaLog(octets)
            }
            COMMAND => {
                within(octets, "a TPM command", MAX_MESSAGE)?;
                Self::Command(octets)
            }
            RESPONSE => {
                within(octets, "a TPM response", MAX_MESSAGE)?;
                Self::Response(octets)
            }
            NEXT_BOOT => {
                within(octets, "the claim of the next boot", MAX_NEXT_BOOT_OCTETS)?;
                Self::NextBoot(octets)
            }
            DEVICE_INFO => Self::DeviceInfo(DeviceInfo::read(octets)?),
            PREIMAGE => {
                let mut rest = octets;
                let pcr = number(&mut rest, "a preimage")?;
                let event = number(&mut rest, "a preimage")?;
                Self::Preimage(Preimage {
                    pcr: u8::try_from(pcr).map_err(|_| ContextError::Malformed("a preimage"))?,
                    event,
                    octets: rest.to_vec(),
                })
            }
            UNEXPLAINED_EVENT => {
                let malformed = || ContextError::Malformed("an unexplained event");
                let mut rest = octets;
                let pcr = number(&mut rest, "an unexplained event")?;
                let pcr = u8::try_from(pcr).ok();
                let event = number(&mut rest, "an unexplained event")?;
                Self::UnexplainedEvent(UnexplainedEvent {
                    // Everything else is in the log of the firmware.
                    pcr: pcr
                        .filter(|pcr| PCRS_OF_USER_SPACE.contains(pcr))
                        .ok_or_else(malformed)?,
                    event,
                    digest: EventDigest(rest.try_into().map_err(|_| malformed())?),
                })
            }
            other => return Err(ContextError::UnknownBlob(other)),
        })
    }

    fn write(&self, octets: &mut Vec<u8>) {
        octets.extend(self.kind().to_le_bytes());
        octets.extend(length(self.size()).to_le_bytes());
        match self {
            Self::EventLog(blob)
            | Self::ImaLog(blob)
            | Self::Command(blob)
            | Self::Response(blob)
            | Self::NextBoot(blob) => octets.extend(*blob),
            Self::DeviceInfo(info) => {
                for number in [1, info.version, info.interface, info.implementation] {
                    octets.extend(number.to_le_bytes());
                }
            }
            Self::Preimage(preimage) => {
                octets.extend(u32::from(preimage.pcr).to_le_bytes());
                octets.extend(preimage.event.to_le_bytes());
                octets.extend(&preimage.octets);
            }
            Self::UnexplainedEvent(event) => {
                octets.extend(u32::from(event.pcr).to_le_bytes());
                octets.extend(event.event.to_le_bytes());
                octets.extend(event.digest.0);
            }
        }
    }

    fn kind(&self) -> u32 {
        match self {
            Self::EventLog(_) => EVENT_LOG,
            Self::DeviceInfo(_) => DEVICE_INFO,
            Self::Command(_) => COMMAND,
            Self::Response(_) => RESPONSE,
            Self::ImaLog(_) => IMA_LOG,
            Self::Preimage(_) => PREIMAGE,
            Self::NextBoot(_) => NEXT_BOOT,
            Self::UnexplainedEvent(_) => UNEXPLAINED_EVENT,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::EventLog(blob)
            | Self::ImaLog(blob)
            | Self::Command(blob)
            | Self::Response(blob)
            | Self::NextBoot(blob) => blob.len(),
            Self::DeviceInfo(_) => 16,
            Self::Preimage(preimage) => 8 + preimage.octets.len(),
            Self::UnexplainedEvent(event) => 8 + event.digest.0.len(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::EventLog(_) => "event log",
            Self::DeviceInfo(_) => "TPM_DEVICE_INFO",
            Self::Command(_) => "command",
            Self::Response(_) => "response",
            Self::ImaLog(_) => "IMA log",
            Self::Preimage(_) => "preimage",
            Self::NextBoot(_) => "claim of the next boot",
            Self::UnexplainedEvent(_) => "unexplained event",
        }
    }

    fn stands_once(&self) -> bool {
        matches!(
            self,
            Self::EventLog(_) | Self::DeviceInfo(_) | Self::ImaLog(_) | Self::NextBoot(_)
        )
    }

    fn is_same_kind(&self, other: &Self) -> bool {
        self.kind() == other.kind()
    }
}

impl DeviceInfo {
    fn read(octets: &[u8]) -> Result<Self, ContextError> {
        const NAME: &str = "TPM_DEVICE_INFO";
        let mut rest = octets;
        let structure = number(&mut rest, NAME)?;
        let info = Self {
            version: number(&mut rest, NAME)?,
            interface: number(&mut rest, NAME)?,
            implementation: number(&mut rest, NAME)?,
        };
        match (structure, rest) {
            (1, []) => Ok(info),
            _ => Err(ContextError::Malformed(NAME)),
        }
    }
}

/// EncContext, the length of the ciphertext, and the ciphertext.
fn sealed_state<'o>(rest: &mut &'o [u8]) -> Result<&'o [u8], ContextError> {
    const NAME: &str = "its sealed state";
    let all = *rest;
    take(rest, ENC_CONTEXT, NAME)?;
    let ciphertext = number(rest, NAME)? as usize;
    let found = ENC_CONTEXT + LENGTH + ciphertext;
    if found > MAX_SEALED_STATE {
        return Err(ContextError::TooLarge {
            part: "the sealed state of the context",
            found,
            limit: MAX_SEALED_STATE,
        });
    }
    take(rest, ciphertext, NAME)?;
    Ok(&all[..found])
}

fn within(octets: &[u8], part: &'static str, limit: usize) -> Result<(), ContextError> {
    let found = octets.len();
    match found > limit {
        false => Ok(()),
        true => Err(ContextError::TooLarge { part, found, limit }),
    }
}

fn number(rest: &mut &[u8], part: &'static str) -> Result<u32, ContextError> {
    let octets = take(rest, 4, part)?;
    let octets = octets.try_into().expect("four octets were taken");
    Ok(u32::from_le_bytes(octets))
}

fn take<'o>(
    rest: &mut &'o [u8],
    count: usize,
    part: &'static str,
) -> Result<&'o [u8], ContextError> {
    let (taken, after) = rest
        .split_at_checked(count)
        .ok_or(ContextError::Truncated(part))?;
    *rest = after;
    Ok(taken)
}

/// A length that the limits of a context keep small.
fn length(octets: usize) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}
