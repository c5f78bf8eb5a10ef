#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_vm::qemu::qmp::fuzz_qmp_message(data));
