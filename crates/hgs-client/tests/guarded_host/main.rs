//! Hosts against a guardian that is made of the servers' halves of both protocols and of nothing else: no store, no
//! limits, and as wrong as a test wants it.

mod attest;
mod freshness;
mod guardian;
mod identity_keys;
mod kept_keys;
mod time_limits;
mod tpm;
mod unwrap;
