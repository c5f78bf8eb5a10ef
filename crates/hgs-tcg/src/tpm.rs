//! Structures, commands and sessions of TPM 2.0 (TCG TPM 2.0 Library, parts 1 to 3).
