//! FreeBSD: sysctl(3). Compiled, and not yet run on a machine.

mod cpu;
mod disk;
mod interrupts;
mod memory;
mod network;
mod process;
mod sockets;
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
