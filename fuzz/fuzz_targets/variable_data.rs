#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_tcg::image::fuzzing::fuzz_variable_data(data));
