//! FreeBSD: sysctl(3). Compiled, and not yet run on a machine.

#[expect(unsafe_code, reason = "system calls")]
mod cpu;
#[expect(unsafe_code, reason = "system calls")]
mod disk;
mod interrupts;
mod memory;
#[expect(unsafe_code, reason = "system calls")]
mod network;
#[expect(unsafe_code, reason = "system calls")]
mod process;
mod sockets;
#[expect(unsafe_code, reason = "system calls")]
mod sysctl;
mod tcp;

use super::Source;

/// The sources, in the order in which they are asked.
pub(super) fn sources() -> Vec<Box<dyn Source>> {
    vec![
        Box::new(cpu::Cpu),
        Box::new(interrupts::Interrupts),
        Box::new(memory::Memory),
        Box::new(disk::Disk),
        Box::new(network::Network),
        Box::new(tcp::Tcp),
        Box::new(sockets::Sockets),
        Box::new(process::Process),
    ]
}
