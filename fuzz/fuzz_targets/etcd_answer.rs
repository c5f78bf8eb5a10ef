#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_etcd::fuzz_answer(data));
