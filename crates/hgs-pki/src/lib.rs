//! Certificates, thumbprints, chain checks, issuing and certs-only PKCS#7.
