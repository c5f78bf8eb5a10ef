#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_protector::fuzzing::fuzz_protector(data));
