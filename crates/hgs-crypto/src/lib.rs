//! Cryptographic primitives named after their standards, secrets and randomness.
