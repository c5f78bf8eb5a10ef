#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_pki::fuzzing::fuzz_endorsement(data));
