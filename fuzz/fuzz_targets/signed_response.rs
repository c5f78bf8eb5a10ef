#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_kps::fuzzing::fuzz_signed_response(data));
