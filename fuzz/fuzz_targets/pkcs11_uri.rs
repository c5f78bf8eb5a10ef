#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_custody::pkcs11_uri::fuzz_pkcs11_uri(data));
