#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hgs_vm::description::fuzz_description(data);
    hgs_vm::protection::fuzz_protection(data);
});
