#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_trace::fuzzing::fuzz_guardian_facts(data));
