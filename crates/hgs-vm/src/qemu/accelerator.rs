//! How a machine's processors run.

/// How a machine's processors run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    /// On the host's processors. A guest was seen to run so.
    Kvm,
    /// Translated by QEMU, ten times as slow and more, because no guest runs on the host's processors here.
    Tcg {
        /// Why not.
        reason: String,
    },
}

impl Accelerator {
    /// The value of QEMU's option `-accel`.
    #[must_use]
    pub const fn option(&self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg { .. } => "tcg,thread=multi",
        }
    }
}
