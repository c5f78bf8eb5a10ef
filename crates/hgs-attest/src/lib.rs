//! The attestation protocol MS-HGSA, both roles: messages, host keys, health certificates.

pub mod wire;
