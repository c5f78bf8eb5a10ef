#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_crypto::rsa::oaep::fuzz_oaep_encoding(data));
