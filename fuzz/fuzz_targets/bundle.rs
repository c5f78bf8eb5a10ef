#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_custody::bundle::fuzz_bundle(data));
