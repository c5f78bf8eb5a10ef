//! The host side: configuration, attestation, unwrapping and re-sealing.
