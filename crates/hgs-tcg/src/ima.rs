//! The log of the Integrity Measurement Architecture of the Linux kernel.
