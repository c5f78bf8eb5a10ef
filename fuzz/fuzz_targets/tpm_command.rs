#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_tcg::tpm::fuzzing::fuzz_command(data));
