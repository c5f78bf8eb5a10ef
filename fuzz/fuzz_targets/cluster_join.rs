#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_cluster::join::fuzz_join(data));
