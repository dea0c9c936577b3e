//! Linux: /proc and /sys.

#[expect(unsafe_code, reason = "system calls")]
mod cpu;
mod disk;
mod interrupts;
mod memory;
mod network;
mod process;
#[expect(unsafe_code, reason = "system calls")]
mod sockets;
mod tcp;
mod text;

use super::Source;

/// The sources, in the order in which they are asked.
pub(super) fn sources() -> Vec<Box<dyn Source>> {
    vec![
        Box::new(cpu::Cpu::default()),
        Box::new(interrupts::Interrupts::default()),
        Box::new(memory::Memory::default()),
        Box::new(disk::Disk::default()),
        Box::new(network::Network::default()),
        Box::new(tcp::Tcp::default()),
        Box::new(sockets::Sockets::default()),
        Box::new(process::Process::default()),
    ]
}
