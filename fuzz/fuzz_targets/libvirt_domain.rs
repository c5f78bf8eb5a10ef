#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hgs_vm::libvirt::fuzz_libvirt_domain(data);
    hgs_vm::libvirt::fuzz_existing_machine(data);
});
