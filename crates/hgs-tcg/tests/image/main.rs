//! Images: read, hashed, judged by other programs, tampered with.

mod debian;
mod hostile;
mod judges;
mod refusals;
mod shim;
mod systemd_stub;
mod variables;
